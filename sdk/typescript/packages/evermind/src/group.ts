import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { EXIT, Failure } from './exit.js';

/** How long leftover processes have between SIGTERM and SIGKILL, in ms. */
const LEFTOVER_GRACE = 2_000;
/** How long the kernel may take to end what was killed, in ms. */
const KILLED_MAX = 2_000;
/** Nothing tells when a group is empty, so it is asked this often, in ms. */
const ASK_EVERY = 20;

/** A command and all that it starts: one process group, led by the command. */
export class Group {
  readonly #child: ChildProcess;
  readonly #id: number;
  /** Resolves when the command ends, to what a shell would make of it: its code, or 128 + the signal. */
  readonly ended: Promise<number>;

  private constructor(child: ChildProcess, id: number, ended: Promise<number>) {
    this.#child = child;
    this.#id = id;
    this.ended = ended;
  }

  /** Starts a command in a group (and a session: Node knows no other way) of its own. */
  static async start(words: readonly string[], env: NodeJS.ProcessEnv): Promise<Group> {
    const [program, ...args] = words;
    if (program === undefined) throw Failure.usage('no command was given', 'give it after --');
    let child: ChildProcess;
    try {
      child = spawn(program, args, { detached: true, stdio: 'inherit', env });
    } catch (error) {
      // Arguments that are too long, say: Node keeps the event for what it expects.
      throw cannotRun(program, error as NodeJS.ErrnoException);
    }
    const ended = new Promise<number>((resolve) => {
      child.once('exit', (code, signal) => {
        resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
      });
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error: NodeJS.ErrnoException) => {
        reject(cannotRun(program, error));
      });
    });
    if (child.pid === undefined) throw new Failure(`cannot run ${program}`, EXIT.notStarted);
    return new Group(child, child.pid, ended);
  }

  /** Sends a signal to every process of the group. One that has gone needs none. */
  signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.#id, signal);
    } catch {
      // Gone.
    }
  }

  /** Asks every process to end, stopped ones too. */
  terminate(): void {
    this.signal('SIGTERM');
    this.signal('SIGCONT');
  }

  /**
   * After the command ended: ends what it left running. Resolves when the whole group is gone, or was
   * killed and the kernel has not buried it in 2 s.
   */
  async finish(patient: boolean): Promise<void> {
    // Living members keep the group's id from being used again; without any there is nothing to end.
    if (!patient) this.signal('SIGKILL');
    else if (!this.#isGone()) {
      this.terminate();
      await this.#untilGone(LEFTOVER_GRACE);
    }
    if (!this.#isGone()) {
      this.signal('SIGKILL');
      await this.#untilGone(KILLED_MAX);
    }
    this.#child.unref();
  }

  async #untilGone(limit: number): Promise<void> {
    const end = performance.now() + limit;
    while (!this.#isGone() && performance.now() < end) await sleep(ASK_EVERY);
  }

  #isGone(): boolean {
    try {
      process.kill(-this.#id, 0);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ESRCH';
    }
    return onlyZombies(this.#id);
  }
}

/**
 * Whether all members are dead and only wait to be buried: where init does not do that (in many
 * containers) they would pass for living ones for ever. Told by Linux's /proc; elsewhere, no.
 */
function onlyZombies(group: number): boolean {
  let pids: string[];
  try {
    pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return false;
  }
  return pids.every((pid) => {
    let stat: string;
    try {
      stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    } catch {
      return true;
    }
    // After the name, which is in parentheses and may hold anything: state, parent, group.
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || Number(pgrp) !== group;
  });
}

function cannotRun(program: string, error: NodeJS.ErrnoException): Failure {
  const message = `cannot run ${program}: ${error.message}`;
  return error.code === 'ENOENT'
    ? new Failure(message, EXIT.notFound, 'is it installed, and in PATH?', { cause: error })
    : new Failure(message, EXIT.notStarted, 'is it a program that this user may run?', { cause: error });
}
