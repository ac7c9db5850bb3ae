import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { binary } from './binary.ts';
import { shared } from './shared.ts';

const BIN = fileURLToPath(new URL('../../packages/evermind/dist/bin.js', import.meta.url));

/** How a command ended, and what it said. */
export interface Said {
  /** As a shell has it: 128 and the signal, where it died of one. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command under way. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Said>;
}

/** Starts the npm command; the environment names the shared cluster unless `env` says otherwise. */
export function start(
  words: string[],
  env: NodeJS.ProcessEnv = {},
  stdin: 'empty' | 'open' = 'empty',
): Running {
  return launch(process.execPath, [BIN, ...words], env, stdin);
}

/**
 * Runs a line of shell with job control on a terminal of its own, in which `$RUN` is the npm command;
 * all that it says comes on one stream.
 */
export function onTerminal(line: string): Running {
  const env = { RUN: `${process.execPath} ${BIN}`, LINE: `set -m; ${line}` };
  const words = ['--quiet', '--return', '--command', 'exec bash -c "$LINE"', '/dev/null'];
  return launch('script', words, env, 'open');
}

/** Runs a line of bash without a terminal, in which `$RUN` is the npm command. */
export function inShell(line: string, env: NodeJS.ProcessEnv = {}): Running {
  return launch('bash', ['-c', line], { RUN: `${process.execPath} ${BIN}`, ...env }, 'empty');
}

/** Runs the npm command to its end. */
export function evermind(words: string[], env: NodeJS.ProcessEnv = {}): Promise<Said> {
  return start(words, env).ended;
}

/** Runs the server's own command to its end, to compare with. */
export function rust(words: string[], env: NodeJS.ProcessEnv = {}): Promise<Said> {
  return launch(binary(), words, env, 'empty').ended;
}

/** Of a test that closed the command's stdout. */
function gone(): string {
  return '';
}

function launch(program: string, words: string[], env: NodeJS.ProcessEnv, stdin: 'empty' | 'open'): Running {
  const { apiKey, endpoints } = shared();
  const cluster = { EVERMIND_API_KEY: apiKey, EVERMIND_BASE_URL: endpoints.join(',') };
  const child = spawn(program, words, {
    env: { PATH: process.env['PATH'], ...cluster, ...env },
  });
  if (stdin === 'empty') child.stdin.end();
  const code = new Promise<number | null>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(signal === null ? code : 128 + constants.signals[signal]);
    });
  });
  const ended = Promise.all([code, text(child.stdout).catch(gone), text(child.stderr)]).then(
    ([code, stdout, stderr]) => ({
      code,
      stdout,
      stderr,
    }),
  );
  return { child, ended };
}
