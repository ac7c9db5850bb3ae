import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { expect, test } from 'vitest';

import { binary } from './harness/binary.ts';
import { shared } from './harness/shared.ts';

const BIN = fileURLToPath(new URL('../packages/evermind/dist/bin.js', import.meta.url));
/** The player of the table that the server's own command is measured with too. */
const TABLE = join(dirname(binary()), 'examples', 'terminal-table');

const RESET = 'Node makes all ignored signals default before any program runs; nohup alone is recognised';

/** Rows that cannot hold with plain Node, and why. */
const REASONS = {
  'signals ignored by the launcher stay ignored': RESET,
  'the command inherits which signals are ignored': RESET,
  'the command inherits which signals are blocked': RESET,
};

/** Plays the rows with this in their names. Gives those that differ from env without a reason. */
async function differing(filter: string): Promise<string[]> {
  const { apiKey, endpoints } = shared();
  const prefix = `${process.execPath} ${BIN} lock run {key} --lease 5s --`;
  const reasons = Object.entries(REASONS).map((row) => row.join('='));
  const env = { ...process.env, EVERMIND_API_KEY: apiKey, EVERMIND_BASE_URL: endpoints.join(',') };
  const played = await promisify(execFile)(TABLE, [prefix, filter, ...reasons], { env }).catch(
    (error: unknown) => error as { stdout: string; stderr: string },
  );
  if (!/^(as env|DIFFERS) /m.test(played.stdout)) throw new Error(`${TABLE} failed: ${played.stderr}`);
  // A mark, the name of the row in 58 columns, and what is expected.
  const lines = played.stdout.split('\n').filter((line) => line.startsWith('DIFFERS'));
  return lines.map((line) => line.slice(9, 67).trim());
}

test('lock run behaves at a terminal and under signals as env does', { timeout: 300_000 }, async () => {
  let rows = await differing('');
  // Shells say some things now earlier, now later, whatever they run: those come again alone.
  for (let again = 0; again < 3 && rows.length > 0; again++) {
    rows = (await Promise.all(rows.map(differing))).flat();
  }
  expect(rows).toEqual([]);
});
