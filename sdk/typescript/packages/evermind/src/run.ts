import { constants } from 'node:os';
import { isatty } from 'node:tty';

import { type Lock, LockLostError } from '@evermind-sh/sdk';

import { Arguments } from './arguments.js';
import { client, CONNECTION } from './connection.js';
import { EXIT, Failure } from './exit.js';
import { Group } from './group.js';
import { told } from './output.js';
import { taking, TAKING } from './taking.js';

/** Below this the way to the cluster and back takes too much of a lease, in ms. */
const LEASE_MIN = 1_000;
/** For SIGTERM to work before SIGKILL does, in ms; less of a short lease. */
const TERM_GRACE_MAX = 5_000;
/** For SIGKILL to work before the deadline, in ms; less of a short lease. */
const KILL_GRACE_MAX = 250;
/** Timers stand still while the machine sleeps; leases do not. The longest of them, in ms. */
const TICK = 200;
/** The signals that are passed on. To be stopped alone would leave the command without extensions. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGTSTP'] as const;

/** Runs a command only while a lock is held: `evermind lock run KEY -- COMMAND`. */
export async function run(words: readonly string[], help: string): Promise<void> {
  const at = words.indexOf('--');
  const command = at < 0 ? [] : words.slice(at + 1);
  const args = new Arguments(
    at < 0 ? words : words.slice(0, at),
    { ...TAKING, ...CONNECTION, adopt: { type: 'boolean' } },
    help,
  );
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

  const asked = new AbortController();
  const early: NodeJS.Signals[] = [];
  // A signal calls the wait off; afterwards it is the command's.
  let pass = (signal: NodeJS.Signals): void => {
    asked.abort(signal);
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    pass(signal);
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    let lock: Lock;
    try {
      lock = await told(key, evermind.lock({ ...request, signal: asked.signal }));
    } catch (error) {
      if (asked.signal.aborted) {
        process.exitCode = 128 + constants.signals[asked.signal.reason as NodeJS.Signals];
        return;
      }
      if (!LockLostError.is(error)) throw error;
      // Granted, and not kept until the command could begin.
      throw new Failure(error.message, EXIT.notAcquired, 'try again later', { cause: error });
    }
    pass = (signal) => {
      early.push(signal);
    };
    const env = { ...process.env, EVERMIND_LOCK_KEY: key, EVERMIND_FENCING_TOKEN: String(lock.fencingToken) };
    let group: Group;
    try {
      group = await Group.start(command, env);
    } catch (error) {
      await lock.release().catch(() => undefined);
      throw error;
    }
    const holding = new Holding(group, lock, request.lease);
    pass = (signal) => {
      holding.pass(signal);
    };
    for (const signal of early) holding.pass(signal);
    process.exitCode = await holding.end();
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
  }
}

/** A command that runs, and the lock that it runs under. */
class Holding {
  readonly #group: Group;
  readonly #lock: Lock;
  readonly #termGrace: number;
  readonly #killGrace: number;
  #timer: NodeJS.Timeout | undefined;
  /** The newest deadline of the lock while it was not lost, by both clocks. */
  #until = { monotonic: -Infinity, wall: -Infinity };
  /** Why the command has to end, and when to stop asking (ms of the monotonic clock). */
  #lost: { why: string; killAt: number; killed: boolean } | undefined;
  #trouble = 'no answer in time';

  constructor(group: Group, lock: Lock, lease: number) {
    this.#group = group;
    this.#lock = lock;
    this.#termGrace = Math.min(TERM_GRACE_MAX, lease / 4);
    this.#killGrace = Math.min(KILL_GRACE_MAX, lease / 20);
    this.#remaining();
  }

  /** Sees the command to its end. Gives its exit code, or that the lock was lost. */
  async end(): Promise<number> {
    this.#watch();
    this.#lock.signal.addEventListener('abort', this.#watch);
    const code = await this.#group.ended;
    clearTimeout(this.#timer);
    this.#lock.signal.removeEventListener('abort', this.#watch);
    const lost = this.#lost;
    await this.#group.finish(lost === undefined);
    const gone = await this.#release(lost === undefined);
    const why = lost?.why ?? gone;
    if (why !== undefined) {
      const hint = 'what the command did last may be incomplete; others may hold the lock now';
      throw new Failure(`the lock was lost: ${why}`, EXIT.lost, hint);
    }
    return code;
  }

  /** Passes a signal on to the command. */
  pass(signal: NodeJS.Signals): void {
    if (signal !== 'SIGTSTP') {
      this.#group.signal(signal);
      return;
    }
    // A group without a terminal of its own takes no notice of SIGTSTP.
    this.#group.signal('SIGSTOP');
    // Without a terminal somebody stopped it on purpose: the lock stays held.
    // (`process.stdin` would open it, and it is the command's.)
    if (!isatty(0)) return;
    process.stderr.write('evermind: stopped; the lock is not extended until this continues\n');
    process.kill(process.pid, 'SIGSTOP');
    // A shell continued us. The command goes on only under a lock that is still held.
    this.#trouble = 'it was stopped, or was not answered, for too long';
    if (!this.#isEnding()) this.#group.signal('SIGCONT');
    this.#watch();
  }

  /** Has the command end if the lock cannot be kept. */
  readonly #watch = (): void => {
    clearTimeout(this.#timer);
    const remaining = this.#remaining();
    const now = performance.now();
    if (!this.#lost && this.#isEnding()) {
      const { signal } = this.#lock;
      // The cluster's own word that the grant has ended leaves no longer than a grace.
      const gone = signal.aborted ? this.#termGrace : Infinity;
      if (remaining > 0 && LockLostError.is(signal.reason)) this.#trouble = reasonOf(signal.reason);
      this.#lost = {
        why: this.#trouble,
        killAt: now + Math.min(remaining - this.#killGrace, gone),
        killed: false,
      };
      process.stderr.write(`warning: the lock cannot be kept, and the command is ended: ${this.#trouble}\n`);
      this.#group.terminate();
    }
    // The monotonic clock may stand still while the machine sleeps: what remains counts as well.
    const isDue = this.#lost && (now >= this.#lost.killAt || remaining <= this.#killGrace);
    if (this.#lost && !this.#lost.killed && isDue) {
      this.#group.signal('SIGKILL');
      this.#lost.killed = true;
    }
    if (this.#lost?.killed) return;
    const next = this.#lost ? this.#lost.killAt - now : remaining - this.#termGrace;
    this.#timer = setTimeout(this.#watch, Math.max(1, Math.min(next, TICK)));
  };

  #isEnding(): boolean {
    return this.#lock.signal.aborted || this.#remaining() <= this.#termGrace;
  }

  /**
   * What is left of the lease, in ms. A lock that was lost says only that nothing is; how long the
   * command may be given to end goes by the deadline that it had before.
   */
  #remaining(): number {
    const [now, wall] = [performance.now(), Date.now()];
    if (!this.#lock.signal.aborted) {
      const remaining = this.#lock.remaining();
      this.#until = { monotonic: now + remaining, wall: wall + remaining };
    }
    return Math.min(this.#until.monotonic - now, this.#until.wall - wall);
  }

  /** Gives the lock back, and says so if that failed and matters. Resolves to why it was lost, if it was. */
  async #release(must: boolean): Promise<string | undefined> {
    let why = 'no answer within 2 s';
    try {
      if (await this.#lock.release()) return undefined;
    } catch (error) {
      why = reasonOf(error);
      if (LockLostError.is(error)) return why;
    }
    if (!must) return undefined;
    process.stderr.write(`warning: the lock ${JSON.stringify(this.#lock.key)} was not released: ${why}\n`);
    process.stderr.write('hint: it ends with its lease\n');
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}
