import { setTimeout as sleep } from 'node:timers/promises';

/** How long a condition may take to come true, in ms, unless a test says otherwise. */
const PATIENCE = 20_000;

/** Asks until the answer is neither undefined nor false; fails with what was waited for. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  patience = PATIENCE,
): Promise<T> {
  const end = performance.now() + patience;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > end) throw new Error(`in ${patience} ms it did not come to this: ${what}`);
    await sleep(20);
  }
}
