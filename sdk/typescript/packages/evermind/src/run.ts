import { randomUUID } from 'node:crypto';

import { type Lock, LockLostError } from '@evermind-sh/sdk';

import { Arguments } from './arguments.js';
import { client, CONNECTION } from './connection.js';
import { EXIT, Failure } from './exit.js';
import { type End, Group, letGo } from './group.js';
import { Holding } from './holding.js';
import { told } from './output.js';
import { dieOf, exitCode, ignoredAtStart, PASSED } from './signals.js';
import { taking, TAKING } from './taking.js';
import { Watch } from './watch.js';

/** Below this the way to the cluster and back takes too much of a lease, in ms. */
const LEASE_MIN = 1_000;
/** What only this command has. */
const RUN = { adopt: { type: 'boolean' }, 'pass-api-key': { type: 'boolean' } } as const;
/** What the command has no need of, unless it is wanted. */
const SECRETS = ['EVERMIND_API_KEY', 'EVERMIND_LICENCE_KEY', 'EVERMIND_ADMIN_TOKEN'];

/** Runs a command only while a lock is held: `evermind lock run KEY -- COMMAND`. */
export async function run(words: readonly string[], help: string): Promise<void> {
  const at = words.indexOf('--');
  const command = at < 0 ? [] : words.slice(at + 1);
  const options = { ...TAKING, ...CONNECTION, ...RUN };
  const args = new Arguments(at < 0 ? words : words.slice(0, at), options, help);
  const [key = ''] = args.positionals('KEY');
  if (command.length === 0) throw Failure.usage('no command was given', 'give it after --');
  const request = { ...taking(key, args), adopt: args.flag('adopt') };
  if (request.lease < LEASE_MIN) {
    throw Failure.usage(
      'run needs a --lease of at least 1s',
      'it is extended while the command runs: a short one only makes that fragile',
    );
  }
  const evermind = client(args);

  const ignored = ignoredAtStart();
  const asked = new AbortController();
  const early: NodeJS.Signals[] = [];
  // A signal calls the wait off; afterwards it is the command's.
  let pass = (signal: NodeJS.Signals): void => {
    if (signal !== 'SIGWINCH') asked.abort(signal);
  };
  const handlers = PASSED.map((signal) => {
    const handler = (): void => {
      if (!ignored.includes(signal)) pass(signal);
    };
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  const mark = randomUUID();
  const watch = new Watch(mark);
  let end: End;
  try {
    let lock: Lock;
    try {
      lock = await told(key, evermind.lock({ ...request, signal: asked.signal }));
    } catch (error) {
      if (asked.signal.aborted) {
        const signal = asked.signal.reason as NodeJS.Signals;
        await watch.end();
        leave({ code: exitCode(signal), signal });
        return;
      }
      if (!LockLostError.is(error)) throw error;
      // Granted, and not kept until the command could begin.
      throw new Failure(error.message, EXIT.notAcquired, 'try again later', { cause: error });
    }
    pass = (signal) => {
      early.push(signal);
    };
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      EVERMIND_LOCK_KEY: key,
      EVERMIND_FENCING_TOKEN: String(lock.fencingToken),
    };
    if (!args.flag('pass-api-key')) for (const name of SECRETS) Reflect.deleteProperty(env, name);
    let group: Group;
    // A Ctrl-Z that stopped this process alone would leave the command without extensions.
    const stops = { came: false };
    const onStop = (): void => {
      stops.came = true;
    };
    try {
      await watch.ready;
      process.on('SIGTSTP', onStop);
      group = await Group.start(command, env, mark, ignored);
    } catch (error) {
      await lock.release().catch(() => undefined);
      throw error;
    }
    const holding = new Holding(group, lock, watch, request.lease);
    letGo();
    pass = (signal) => {
      void holding.pass(signal);
    };
    for (const signal of early) void holding.pass(signal);
    const ended = holding.end();
    process.off('SIGTSTP', onStop);
    if (stops.came) process.kill(process.pid, 'SIGTSTP');
    end = await ended;
  } finally {
    await watch.end();
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
  leave(end);
}

/** Ends as the command did. */
function leave({ code, signal }: End): void {
  process.exitCode = code;
  if (signal !== null) dieOf(signal);
}
