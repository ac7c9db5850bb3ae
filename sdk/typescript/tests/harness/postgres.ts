import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import { freePort } from './ports.ts';
import { until } from './until.ts';

/** Where Debian keeps the server's programs, which are in nobody's PATH. */
const DEBIAN = '/usr/lib/postgresql';

/** A PostgreSQL server of the test's own. */
export async function postgres(): Promise<{ pool: pg.Pool; stop: () => Promise<void> }> {
  const bin = programs();
  const data = mkdtempSync(join(tmpdir(), 'evermind-pg-'));
  const port = await freePort();
  // It refuses to run as root.
  const asRoot = process.getuid?.() === 0;
  const as = (program: string, words: string[]): [string, string[]] =>
    asRoot
      ? ['setpriv', [`--reuid=${user().uid}`, `--regid=${user().gid}`, '--clear-groups', program, ...words]]
      : [program, words];
  if (asRoot) chownSync(data, user().uid, user().gid);

  const init = ['--pgdata', data, '--username', 'test', '--auth', 'trust', '--no-sync', '--encoding', 'UTF8'];
  execFileSync(...as(join(bin, 'initdb'), init), { stdio: 'pipe', cwd: '/' });
  const flags = ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', data, '-F'];
  const server = spawn(...as(join(bin, 'postgres'), flags), { stdio: 'ignore', cwd: '/' });
  const gone = new Promise<void>((resolve) => {
    server.once('close', () => {
      resolve();
    });
  });
  const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'test', database: 'postgres' });
  await until('PostgreSQL answers', () =>
    pool.query('SELECT 1').then(
      () => true,
      () => false,
    ),
  );
  const stop = async () => {
    await pool.end();
    // At once: nobody will miss the data.
    server.kill('SIGQUIT');
    await gone;
    rmSync(data, { recursive: true });
  };
  return { pool, stop };
}

function programs(): string {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN) : [];
  const newest = versions.map(Number).sort((a, b) => b - a)[0];
  if (newest === undefined) {
    throw new Error('PostgreSQL is not installed; to install it: apt-get install postgresql');
  }
  return join(DEBIAN, String(newest), 'bin');
}

function user(): { uid: number; gid: number } {
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres']).toString());
  return { uid: id('-u'), gid: id('-g') };
}
