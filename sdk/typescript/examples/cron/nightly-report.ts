// A cron job that must not overlap: every machine of a fleet starts it, one of them runs it.
import { type Evermind, LockNotAcquiredError } from 'evermind';

/**
 * Runs the report unless it runs already; resolves to whether it did. A run that takes longer than
 * the lease keeps the lock; one whose machine dies gives it up within the lease.
 */
export async function nightlyReport(
  evermind: Evermind,
  report: (signal: AbortSignal) => Promise<void>,
): Promise<boolean> {
  try {
    // No retries: who comes second has nothing to do.
    await evermind.withLock({ key: 'cron/nightly-report', lease: 30_000, retryAttempts: 0 }, ({ signal }) =>
      report(signal),
    );
    return true;
  } catch (error) {
    if (LockNotAcquiredError.is(error)) return false;
    throw error;
  }
}
