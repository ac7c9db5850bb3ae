import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { EXIT, Failure } from './exit.js';
import { canLook, family, look, named, type Process, signalAll } from './processes.js';
import { PASSED } from './signals.js';

/** The word that starts the watch instead of a command of the user's. */
export const WATCH = 'lock-run-watch';
/** How long the command has to end by itself after the guard's death, within its lease, in ms. */
const ORPHAN_GRACE = 5_000;
/** How often what has to end is looked for, in ms. */
const LOOK_EVERY = 50;
/** How long the watch may take to begin or to answer, in ms. */
const BEGIN_MAX = 10_000;
const ANSWER_MAX = 1_000;
/** How often a watch that was ended is replaced. */
const REPLACED_MAX = 5;
/** Handled, so that they do not stop it. */
const STOPPING: readonly NodeJS.Signals[] = ['SIGTSTP', 'SIGTTIN', 'SIGTTOU'];

/** What the guard tells the watch. Times are ms of the monotonic clock, which all processes share. */
interface Order {
  /** The command, by its number. */
  readonly command?: number;
  /** When the command must be gone. */
  readonly until?: number;
  /** When it is asked to end, if the guard has not said another time by then. */
  readonly ask?: number;
  /** A question whether a signal has come here too. */
  readonly ping?: number;
}

/** ms of the monotonic clock, the same in all processes. */
export function now(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

/**
 * The guard's end. The watch is a process that ends the command when the guard cannot: it was killed,
 * or stopped, or hangs in a write. The pipe to it closes when the guard dies, however it does.
 *
 * It is in the guard's process group, so it also tells which signals came to the whole group (Ctrl-C):
 * the command has those already.
 */
export class Watch {
  readonly #mark: string;
  #child!: ChildProcess;
  #ready!: Promise<void>;
  #order: Order = {};
  #pings = 0;
  #replaced = 0;
  #over = false;
  readonly #answers = new Map<number, (group: boolean) => void>();
  /** Signals that came to the watch and were not asked for yet. */
  readonly #seen: string[] = [];
  /** Is called when there is no watch any more. */
  onLost: () => void = () => undefined;

  constructor(mark: string) {
    this.#mark = mark;
    this.#start();
  }

  /** Resolves when the watch does its work. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  #start(): void {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), WATCH, this.#mark], {
      // Its stderr is for what is left to say when the guard is gone.
      stdio: ['pipe', 'pipe', 'inherit'],
      // Nothing that would load more than it needs.
      env: {},
      detached: !canLook,
    });
    this.#child = child;
    child.stdin.on('error', () => undefined);
    const began = new Promise<void>((resolve, reject) => {
      const fail = (): void => {
        reject(new Failure('the process that watches over the command did not start', EXIT.other));
      };
      setTimeout(fail, BEGIN_MAX).unref();
      child.once('error', fail);
      child.once('exit', fail);
      createInterface(child.stdout).on('line', (line) => {
        if (line === 'ready') resolve();
        else this.#heard(line);
      });
    });
    this.#ready = began;
    // It is looked at where the command is to be started.
    began.catch(() => undefined);
    child.once('exit', () => {
      if (this.#over || this.#child !== child) return;
      for (const answer of this.#answers.values()) answer(false);
      this.#replaced += 1;
      if (this.#replaced > REPLACED_MAX) this.onLost();
      else this.#start();
      this.#send(this.#order);
    });
  }

  /** Tells what the command is, and when it must be gone. */
  tell(order: Order): void {
    this.#order = { ...this.#order, ...order };
    this.#send(this.#order);
  }

  #send(order: Order): void {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`, () => undefined);
  }

  /** Whether a signal that has come here has come to the whole group. */
  async cameToGroup(signal: NodeJS.Signals): Promise<boolean> {
    if (!canLook) return false;
    const ping = ++this.#pings;
    const answered = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ANSWER_MAX);
      this.#answers.set(ping, () => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#send({ ping });
    await answered;
    this.#answers.delete(ping);
    const at = this.#seen.indexOf(signal);
    if (at < 0) return false;
    this.#seen.splice(at, 1);
    return true;
  }

  #heard(line: string): void {
    const [word, ping] = line.split(' ');
    if (word === 'pong') this.#answers.get(Number(ping))?.(true);
    else if (word) {
      this.#seen.push(word);
      // What came only there is not asked for.
      setTimeout(() => {
        const at = this.#seen.indexOf(word);
        if (at >= 0) this.#seen.splice(at, 1);
      }, ANSWER_MAX).unref();
    }
  }

  /** Ends the watch: there is no command any more. */
  async end(): Promise<void> {
    this.#over = true;
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }
}

/** The watch itself: see {@link Watch}. */
export async function watch(mark: string): Promise<void> {
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`, () => undefined);
  };
  process.stdout.on('error', () => undefined);
  for (const signal of [...PASSED, ...STOPPING]) {
    process.on(signal, () => {
      say(signal);
    });
  }
  const guard = process.ppid;
  let order: Order = {};
  let command: Process | undefined;
  let timer: NodeJS.Timeout | undefined;
  let asked = false;

  const members = (): Process[] => (canLook ? family(command, mark) : []);
  const send = (signal: NodeJS.Signals): void => {
    if (canLook) signalAll(members(), signal);
    else if (order.command !== undefined) {
      try {
        process.kill(-order.command, signal);
      } catch {
        // Gone.
      }
    }
  };
  const ask = (): void => {
    send('SIGTERM');
    send('SIGCONT');
    asked = true;
  };
  /** A job that somebody stopped does nothing, and is not ended for it until it goes on. */
  const isStopped = (): boolean =>
    canLook && look(guard)?.state === 'T' && members().every(({ state }) => state === 'T');
  const enforce = (): void => {
    clearTimeout(timer);
    const { until, ask: askAt = Infinity, command: pid } = order;
    if (until === undefined || pid === undefined) return;
    const time = now();
    let next = Math.min(until, asked ? Infinity : askAt) - time;
    if (time >= until || (time >= askAt && !asked)) {
      next = LOOK_EVERY;
      if (!isStopped()) {
        if (time >= until) send('SIGKILL');
        else ask();
      }
    }
    timer = setTimeout(enforce, Math.max(1, next));
  };

  const lines = createInterface(process.stdin);
  lines.on('line', (line) => {
    const { ping, ...more } = JSON.parse(line) as Order;
    if (ping !== undefined) {
      // A signal that came before the question is told before the answer.
      setImmediate(() => {
        setImmediate(say, `pong ${ping}`);
      });
      return;
    }
    if (more.until !== order.until) asked = false;
    // Once: later the number may be another's.
    if (more.command !== undefined && order.command === undefined && canLook) command = look(more.command);
    order = { ...order, ...more };
    enforce();
  });
  await new Promise((resolve) => {
    lines.once('close', resolve);
    say('ready');
  });
  clearTimeout(timer);

  // The guard is gone.
  const until = Math.min(now() + ORPHAN_GRACE, order.until ?? Infinity);
  ask();
  const killedUntil = until + ORPHAN_GRACE;
  while (now() < killedUntil && (canLook ? members().length > 0 : now() < until + LOOK_EVERY)) {
    if (now() >= until) send('SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
  const left = members();
  if (left.length > 0) {
    process.stderr.on('error', () => undefined);
    process.stderr.write(`warning: these run as another user and cannot be ended: ${named(left)}\n`);
  }
  process.exit(0);
}
