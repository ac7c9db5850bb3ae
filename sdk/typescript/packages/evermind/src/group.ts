import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { EXIT, Failure } from './exit.js';
import { canLook, family, look, MARKS, type Process, signalAll } from './processes.js';

/** How long leftover processes have between SIGTERM and SIGKILL, in ms. */
const LEFTOVER_GRACE = 2_000;
/** How long the kernel may take to end what was killed, in ms. */
const KILLED_MAX = 2_000;
/** Descriptors from here on are not handed on. */
const DESCRIPTORS_MAX = 256;
/** Nothing tells when the last process ends, so it is looked for this often, in ms. */
const LOOK_EVERY = 20;

/**
 * Which descriptors this process was given, by number: `9<file` and a process substitution are the
 * command's too, and Node hands on none beyond stderr. Its own are not files, or are both ends of a pipe.
 */
const OPEN_AT_START = openAtStart();

function openAtStart(): boolean[] {
  const open = [true, true, true];
  if (!canLook) return open;
  const links = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      links.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The one that reads the folder.
    }
  }
  const all = [...links.values()];
  for (const [descriptor, link] of links) {
    const isAlone = /^(pipe|socket):/.test(link) && all.indexOf(link) === all.lastIndexOf(link);
    const isFile = link.startsWith('/');
    if (descriptor > 2 && descriptor < DESCRIPTORS_MAX && (isAlone || isFile)) open[descriptor] = true;
  }
  return Array.from(open, Boolean);
}

/** How a command ended. */
export interface End {
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
}

/** What a command left running. */
export interface Leftovers {
  /** Ended. */
  readonly ended: readonly Process[];
  /** In a session of their own, and so not ended: daemons. */
  readonly escaped: readonly Process[];
  /** They run as another user, and cannot be ended from here. */
  readonly denied: readonly Process[];
}

/**
 * A command and all that it starts.
 *
 * On Linux it is in this process's own group, as if it had been started without us: the terminal's
 * keys, job control, pipelines and /dev/tty work by themselves. Its processes are found in /proc.
 * Elsewhere it leads a group (and a session: Node knows no other way) of its own.
 */
export class Group {
  readonly #child: ChildProcess;
  readonly #id: number;
  readonly #mark: string;
  readonly #command: Process | undefined;
  /** Resolves when the command ends. */
  readonly ended: Promise<End>;

  private constructor(child: ChildProcess, id: number, mark: string, ended: Promise<End>) {
    this.#child = child;
    this.#id = id;
    this.#mark = mark;
    this.#command = canLook ? look(id) : undefined;
    this.ended = ended;
  }

  /** Starts a command. `mark` is a text that no other command has; `ignored`: signals that it ignores. */
  static async start(
    words: readonly string[],
    env: NodeJS.ProcessEnv,
    mark: string,
    ignored: readonly NodeJS.Signals[] = [],
  ): Promise<Group> {
    const [program, ...args] = words;
    if (program === undefined) throw Failure.usage('no command was given', 'give it after --');
    const marks = [env[MARKS], mark].filter(Boolean).join(' ');
    let child: ChildProcess;
    try {
      // Node starts everything with the default of every signal; a shell can ignore some and go.
      const names = ignored.map((signal) => signal.slice(3)).join(' ');
      const [file, rest] = names
        ? ['/bin/sh', ['-c', `trap '' ${names}; exec "$0" "$@"`, program, ...args]]
        : [program, args];
      const stdio = OPEN_AT_START.map((open, index) => (open ? index : 'ignore'));
      child = spawn(file, rest, { detached: !canLook, stdio, env: { ...env, [MARKS]: marks } });
    } catch (error) {
      // Arguments that are too long, say: Node keeps the event for what it expects.
      throw cannotRun(program, error as NodeJS.ErrnoException);
    }
    const ended = new Promise<End>((resolve) => {
      child.once('exit', (code, signal) => {
        resolve({ code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), signal });
      });
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error: NodeJS.ErrnoException) => {
        reject(cannotRun(program, error));
      });
    });
    if (child.pid === undefined) throw new Failure(`cannot run ${program}`, EXIT.notStarted);
    return new Group(child, child.pid, mark, ended);
  }

  get pid(): number {
    return this.#id;
  }

  /** Whether the command is stopped, and whether it would handle a Ctrl-Z itself. */
  stopped(): { handles: boolean } | undefined {
    if (!canLook || look(this.#id)?.state !== 'T') return undefined;
    let status = '';
    try {
      status = readFileSync(`/proc/${this.#id}/status`, 'utf8');
    } catch {
      // Gone.
    }
    const caught = BigInt(`0x${/^SigCgt:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
    return { handles: ((caught >> BigInt(constants.signals.SIGTSTP - 1)) & 1n) === 1n };
  }

  /** Passes a signal on to the command. One that has gone needs none. */
  pass(signal: NodeJS.Signals): void {
    try {
      process.kill(canLook ? this.#id : -this.#id, signal);
    } catch {
      // Gone, or of another user.
    }
  }

  /** Asks every process to end, stopped ones too. */
  terminate(): void {
    this.#signal('SIGTERM');
    this.#signal('SIGCONT');
  }

  kill(): void {
    this.#signal('SIGKILL');
  }

  #signal(signal: NodeJS.Signals): void {
    if (canLook) signalAll(this.#members(), signal);
    else this.pass(signal);
  }

  #members(): Process[] {
    return canLook ? family(this.#command, this.#mark) : [];
  }

  /**
   * After the command ended: ends what it left running, if `all` is set also what has a session of its
   * own. Resolves when that is gone, or was killed and the kernel has not buried it in 2 s.
   */
  async finish(all: boolean): Promise<Leftovers> {
    // The command may have ended before it could be looked at, but its session is ours.
    const own = canLook ? look(process.pid)?.session : undefined;
    const due = (): Process[] => this.#members().filter(({ session }) => all || session === own);
    const ended = due();
    let denied: Process[] = [];
    if (!canLook) await this.#finishGroup(all);
    else if (ended.length > 0) {
      if (!all) {
        signalAll(ended, 'SIGTERM');
        signalAll(ended, 'SIGCONT');
        await until(() => due().length === 0, LEFTOVER_GRACE);
      }
      await until(() => {
        denied = signalAll(due(), 'SIGKILL');
        return due().every(({ pid }) => denied.some((other) => other.pid === pid));
      }, KILLED_MAX);
    }
    this.#child.unref();
    const escaped = all ? [] : this.#members().filter(({ session }) => session !== own);
    return { ended: ended.filter(({ pid }) => !denied.some((other) => other.pid === pid)), escaped, denied };
  }

  /** Where there is no /proc. Living members keep the group's id from being used again. */
  async #finishGroup(all: boolean): Promise<void> {
    const isGone = (): boolean => {
      try {
        process.kill(-this.#id, 0);
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'ESRCH';
      }
      return false;
    };
    if (!all && !isGone()) {
      this.terminate();
      await until(isGone, LEFTOVER_GRACE);
    }
    if (isGone()) return;
    this.kill();
    await until(isGone, KILLED_MAX);
  }
}

/**
 * Lets go of stdin and stdout, which are the command's: what it closes has to be closed for whoever is
 * at the other end.
 */
export function letGo(): void {
  for (const descriptor of [0, 1]) {
    try {
      closeSync(descriptor);
      // The lowest that is free: the same.
      openSync('/dev/null', descriptor === 0 ? 'r' : 'w');
    } catch {
      // Then they stay open.
    }
  }
}

async function until(condition: () => boolean, limit: number): Promise<void> {
  const end = performance.now() + limit;
  while (!condition() && performance.now() < end) await sleep(LOOK_EVERY);
}

function cannotRun(program: string, error: NodeJS.ErrnoException): Failure {
  const message = `cannot run ${program}: ${error.message}`;
  return error.code === 'ENOENT'
    ? new Failure(message, EXIT.notFound, 'is it installed, and in PATH?', { cause: error })
    : new Failure(message, EXIT.notStarted, 'is it a program that this user may run?', { cause: error });
}
