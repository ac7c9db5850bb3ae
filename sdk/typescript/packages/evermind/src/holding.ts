import { setTimeout as sleep } from 'node:timers/promises';

import { type Lock, LockLostError } from '@evermind-sh/sdk';

import { EXIT, Failure } from './exit.js';
import type { End, Group, Leftovers } from './group.js';
import { canLook, look, named } from './processes.js';
import { restore } from './signals.js';
import { now, type Watch } from './watch.js';

/** For SIGTERM to work before SIGKILL does, in ms; less of a short lease. */
const TERM_GRACE_MAX = 5_000;
/** For SIGKILL to work before the deadline, in ms; less of a short lease. */
const KILL_GRACE_MAX = 250;
/** Timers stand still while the machine sleeps; leases do not. The longest of them, in ms. */
const TICK = 200;
/** How often is looked whether a Ctrl-Z has stopped the command, and for how long, in ms. */
const STOP_TICK = 10;
const STOP_MAX = 1_000;
/** A wall clock that was set moves what is left by more than this, in ms. */
const STEP = 100;
/** The watch is told of another deadline from this on, in ms. */
const TELL_STEP = 20;
/** How long the client may take then to learn whether the lock is held, in ms. */
const DOUBT_MAX = 1_200;

/** A command that runs, and the lock that it runs under. */
export class Holding {
  readonly #group: Group;
  readonly #lock: Lock;
  readonly #watcher: Watch;
  readonly #termGrace: number;
  readonly #killGrace: number;
  #timer: NodeJS.Timeout | undefined;
  /** The newest deadline of the lock while it was not lost (ms of the monotonic clock). */
  #until = -Infinity;
  /** The deadline that the watch knows (on its clock). */
  #told = -Infinity;
  /** Until when what is left may be wrong, because the wall clock was set. */
  #doubtUntil: number | undefined;
  /** Why the command has to end, and when to stop asking (ms of the monotonic clock). */
  #lost: { why: string; killAt: number } | undefined;
  #trouble = 'no answer in time';
  /** Until when the command may take to stop after a Ctrl-Z. */
  #stopsUntil = -Infinity;
  /** Until when the command may take to go on after this process was continued. */
  #goesOnUntil = -Infinity;
  /** What is to be said, once nothing can be harmed by a write that hangs or stops this process. */
  readonly #news: string[] = [];

  constructor(group: Group, lock: Lock, watch: Watch, lease: number) {
    this.#group = group;
    this.#lock = lock;
    this.#watcher = watch;
    this.#termGrace = Math.min(TERM_GRACE_MAX, lease / 4);
    this.#killGrace = Math.min(KILL_GRACE_MAX, lease / 20);
    watch.tell({ command: group.pid });
    watch.onLost = () => {
      this.#trouble = 'the process that watches over the command was ended';
      this.#lose(0);
    };
    this.#remaining();
  }

  /** Sees the command to its end. Gives how it ended, or throws that the lock was lost. */
  async end(): Promise<End> {
    process.on('SIGTSTP', this.#onStop);
    process.on('SIGCONT', this.#onContinue);
    this.#check();
    this.#lock.signal.addEventListener('abort', this.#check);
    const end = await this.#group.ended;
    this.#lock.signal.removeEventListener('abort', this.#check);
    const lost = this.#lost;
    const leftovers = await this.#group.finish(lost !== undefined);
    clearTimeout(this.#timer);
    process.off('SIGTSTP', this.#onStop);
    process.off('SIGCONT', this.#onContinue);
    const gone = await this.#release(lost === undefined);
    this.#report(leftovers);
    for (const line of this.#news) process.stderr.write(`${line}\n`);
    const why = lost?.why ?? gone;
    if (why !== undefined) {
      const hint = 'what the command did last may be incomplete; others may hold the lock now';
      throw new Failure(`the lock was lost: ${why}`, EXIT.lost, hint);
    }
    return end;
  }

  /** Passes a signal on to the command, unless it came to the whole group. */
  async pass(signal: NodeJS.Signals): Promise<void> {
    if (!(await this.#watcher.cameToGroup(signal))) this.#group.pass(signal);
  }

  /** Ctrl-Z, or a signal to us alone: we stop when the command does. */
  readonly #onStop = (): void => {
    void (async () => {
      // A group without a terminal of its own takes no notice of SIGTSTP.
      if (!canLook) {
        this.#group.pass('SIGSTOP');
        this.#stop('SIGSTOP');
        return;
      }
      this.#stopsUntil = performance.now() + STOP_MAX;
      this.#goesOnUntil = -Infinity;
      await this.pass('SIGTSTP');
      while (performance.now() < this.#stopsUntil) {
        this.#followStop();
        await sleep(STOP_TICK);
      }
    })();
  };

  /** A shell, or somebody else, continued us. */
  readonly #onContinue = (): void => {
    this.#trouble = 'it was stopped, or was not answered, for too long';
    this.#goesOnUntil = performance.now() + STOP_MAX;
    // The command goes on only under a lock that is still held.
    this.#check();
    if (this.#lost) return;
    void sleep(STOP_TICK).then(() => {
      // A whole group is continued by the shell.
      if (!canLook || this.#group.stopped()) this.#group.pass('SIGCONT');
    });
  };

  /** Stops this process too if the command is stopped, so that a shell sees it and takes over. */
  #followStop(): void {
    const stopped = this.#group.stopped();
    // Where no shell could continue us, that would be for ever.
    if (!stopped || this.#lost || performance.now() < this.#goesOnUntil || !hasShell()) return;
    const asked = performance.now() < this.#stopsUntil;
    this.#stopsUntil = -Infinity;
    const signal = asked && !stopped.handles ? 'SIGTSTP' : 'SIGSTOP';
    this.#stop(signal);
  }

  #stop(signal: 'SIGTSTP' | 'SIGSTOP'): void {
    if (signal === 'SIGTSTP') restore(signal);
    process.kill(process.pid, signal);
    // And on we go.
    if (signal === 'SIGTSTP') process.on('SIGTSTP', this.#onStop);
  }

  /** Has the command end if the lock cannot be kept. */
  readonly #check = (): void => {
    clearTimeout(this.#timer);
    const remaining = this.#remaining();
    if (!this.#lost && this.#isEnding(remaining)) {
      const { signal } = this.#lock;
      if (LockLostError.is(signal.reason)) this.#trouble = reasonOf(signal.reason);
      // The cluster's own word that the grant has ended leaves no longer than a grace.
      this.#lose(Math.min(remaining - this.#killGrace, signal.aborted ? this.#termGrace : Infinity));
    }
    const time = performance.now();
    // The first kill may miss what was being started.
    if (this.#lost && time >= this.#lost.killAt) this.#group.kill();
    if (!this.#lost) this.#followStop();
    const next = this.#lost ? this.#lost.killAt - time : remaining - this.#termGrace;
    this.#timer = setTimeout(this.#check, next > 0 ? Math.max(1, Math.min(next, TICK)) : TICK);
  };

  /** Ends the command, before anything is said: a write may hang. */
  #lose(grace: number): void {
    if (this.#lost) return;
    this.#lost = { why: this.#trouble, killAt: performance.now() + grace };
    this.#group.terminate();
    const until = now() + Math.max(0, grace);
    this.#watcher.tell({ until, ask: until });
    this.#news.push(`warning: the lock cannot be kept, and the command is ended: ${this.#trouble}`);
  }

  #isEnding(remaining: number): boolean {
    return this.#lock.signal.aborted || remaining <= this.#termGrace;
  }

  /**
   * What is left of the lease, in ms. A lock that was lost says only that nothing is; how long the
   * command may be given to end goes by the deadline that it had before.
   *
   * Where the wall clock was set forward, the client asks the cluster, and until it knows the deadline
   * stays what it was. So it does where the machine slept.
   */
  #remaining(): number {
    const time = performance.now();
    const before = this.#until - time;
    if (this.#lock.signal.aborted) return before;
    const remaining = this.#lock.remaining();
    if (remaining < before - STEP) {
      this.#doubtUntil ??= time + DOUBT_MAX;
      if (time < this.#doubtUntil) return before;
    } else this.#doubtUntil = undefined;
    this.#until = time + remaining;
    const until = now() + remaining;
    if (Math.abs(until - this.#told) > TELL_STEP) {
      this.#told = until;
      this.#watcher.tell({ until: until - this.#killGrace, ask: until - this.#termGrace / 2 });
    }
    return remaining;
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
    this.#news.push(`warning: the lock ${JSON.stringify(this.#lock.key)} was not released: ${why}`);
    this.#news.push('hint: it ends with its lease');
    return undefined;
  }

  #report({ ended, escaped, denied }: Leftovers): void {
    if (ended.length > 0 && !this.#lost) {
      this.#news.push(`warning: the command left processes running, which were ended: ${named(ended)}`);
    }
    if (escaped.length > 0) {
      this.#news.push(`warning: these go on without the lock, in a session of their own: ${named(escaped)}`);
    }
    if (denied.length > 0) {
      this.#news.push(`warning: these run as another user and cannot be ended: ${named(denied)}`);
      this.#news.push('hint: run `evermind lock run` as that user, with the command without sudo');
    }
  }
}

/** Whether our parent is of our session, at a terminal: a shell that sees us stop. */
function hasShell(): boolean {
  const [self, parent] = [look(process.pid), look(process.ppid)];
  return self !== undefined && self.session === parent?.session;
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}
