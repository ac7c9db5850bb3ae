// A queue worker with fencing against PostgreSQL: a worker that was paused for longer than its lease
// may wake up beside another. The token in the WHERE clause keeps it from overwriting anything.
import type { Evermind } from 'evermind';
import type { Pool } from 'pg';

export const SCHEMA = `
  CREATE TABLE jobs (
    id      text PRIMARY KEY,
    payload text NOT NULL,
    result  text,
    -- The highest fencing token that wrote here.
    fence   bigint NOT NULL DEFAULT 0
  )`;

/** The write came too late: another worker has had the job since. */
export class StaleWorkerError extends Error {}

/** Does one job under its lock, and stores the result unless a later holder was here. */
export async function work(
  evermind: Evermind,
  pool: Pool,
  id: string,
  process: (payload: string, signal: AbortSignal) => Promise<string>,
): Promise<void> {
  await evermind.withLock({ key: `jobs/${id}`, lease: 10_000 }, async ({ fencingToken, signal }) => {
    const { rows } = await pool.query<{ payload: string }>('SELECT payload FROM jobs WHERE id = $1', [id]);
    const [job] = rows;
    if (job === undefined) throw new Error(`there is no job ${id}`);
    const result = await process(job.payload, signal);
    await store(pool, id, result, fencingToken);
  });
}

/** Writes under a fencing token. */
export async function store(pool: Pool, id: string, result: string, fencingToken: number): Promise<void> {
  const { rowCount } = await pool.query(
    'UPDATE jobs SET result = $2, fence = $3 WHERE id = $1 AND fence < $3',
    [id, result, fencingToken],
  );
  if (rowCount === 0) throw new StaleWorkerError(`job ${id} has been done under a later lock`);
}
