/// <reference lib="esnext.disposable" preserve="true" />
import { type Moment, deadline, left, monotonic } from './clock.js';
import type { AcquireResponse, ExtendResponse, Reliance } from './contract.js';
import { EvermindError, LockLostError, LockNotFoundError, NotOwnerError } from './errors.js';
import { type Reply, hasNumbers, notUnderstood, unanswered } from './exchange.js';
import { follow, later } from './timers.js';
import type { Transport } from './transport.js';

/** What a node has to answer an extension, at least, in ms, before another is asked. */
const EXTEND_GRACE_MIN = 250;
/** To what a lease is filled up at most, in ms: the server refuses more than a day, by its own count. */
const FILL_MAX = 86_340_000;
/** Between two extensions that failed for another reason than the network, in ms. */
const EXTEND_AGAIN = 500;
/** Timers stand still while the machine sleeps; leases do not. The longest of them, in ms. */
const TICK = 200;
/** How long a lock is tried to be given back, in ms. */
const RELEASE_MAX = 2_000;
/** What a node has to answer that before another is asked: within the whole, three are. */
const RELEASE_GRACE = 650;

/** A lock while it is held: what a routine has to know. */
export interface HeldLock extends Reliance {
  /** Which, with the client's prefix. */
  readonly key: string;
  /** The right to extend and to release. */
  readonly uuid: string;
  /**
   * Higher than that of every earlier grant of the cluster. Pass it on to whatever the lock protects,
   * and have that refuse tokens lower than the highest it has seen: a process that is paused cannot
   * know that its lease ran out.
   */
  readonly fencingToken: number;
  /**
   * Aborted when the lock may not be relied on any more, with a {@link LockLostError}: the deadline has
   * passed by the monotonic or the wall clock (no network is needed to know that), or the cluster says
   * that the lock is gone. Aborted as well when the caller's own signal is, with its reason: then the
   * lock is held until it is given back. Timers tell, at most 200 ms late (where the process was
   * paused, as soon as it goes on); {@link Reliance.remaining} reads the clocks.
   */
  readonly signal: AbortSignal;
}

/** A lock whose lease is extended until it is given back; made by {@link Evermind.lock}. */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- the rest is below the class
export class Lock implements HeldLock {
  readonly key: string;
  readonly uuid: string;
  readonly fencingToken: number;
  readonly #transport: Transport;
  /** Whether the uuid was made for this lock: then no other grant has it. */
  readonly #ours: boolean;
  /** ms */
  readonly #lease: number;
  readonly #routine = new AbortController();
  /** Ends an extension under way. */
  readonly #over = new AbortController();
  readonly #unfollow: () => void;
  #deadline!: Moment;
  /** What the newest answer said was left, in ms, and when it came (monotonic). */
  #left!: number;
  #received!: number;
  #extending: Promise<void> | undefined;
  #extendAgainAt = -Infinity;
  #trouble: unknown;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;
  #stopTicking: () => void = () => undefined;

  /** @internal */
  constructor(transport: Transport, reply: Reply, ours: boolean, signal: AbortSignal | undefined) {
    const grant = reply.body as AcquireResponse;
    this.key = grant.config.key;
    this.uuid = grant.config.uuid;
    this.fencingToken = grant.fencingToken;
    this.#transport = transport;
    this.#ours = ours;
    this.#lease = grant.config.lease;
    this.#unfollow = follow(this.#routine, signal);
    this.#renew(reply, grant.waited, grant.expiresIn);
  }

  get signal(): AbortSignal {
    return this.#routine.signal;
  }

  /** Bound, as routines take their lock apart: `({ signal, remaining }) => …`. */
  readonly remaining = (): number => {
    const ms = left(this.#deadline);
    // The cluster's word that the grant has ended counts for more than a deadline to come.
    return this.#lost ? Math.min(0, ms) : ms;
  };

  /**
   * Begins to extend the lease. Where most of it went by on the way here, the first extension comes
   * before anything is done under the lock.
   *
   * @internal
   */
  async begin(): Promise<void> {
    this.#tick();
    await this.#extending;
    if (this.#lost ?? this.remaining() <= 0) throw this.#lose(this.#trouble);
  }

  /**
   * Gives the lock back; again, it does nothing. Resolves to whether a node confirmed it, within 2 s:
   * if not, the lock ends with its lease.
   *
   * @throws {@link LockLostError} if the lock was lost before.
   */
  release(): Promise<boolean> {
    return (this.#released ??= this.#release());
  }

  async #release(): Promise<boolean> {
    // After a pause of the process this may run before the timer that would have told.
    if (this.remaining() <= 0) this.#lose(this.#trouble);
    this.#stopTicking();
    this.#over.abort();
    this.#unfollow();
    // The caller may have taken the lock anew under its own uuid: that grant is not this one's to end.
    if (this.#lost && !this.#ours) throw this.#lost;
    const error = await giveBack(this.#transport, this.key, this.uuid);
    if (isOver(error)) this.#lose(error);
    if (this.#lost) throw this.#lost;
    return error === undefined;
  }

  #renew({ sent, received }: Reply, waited: number, expiresIn: number): void {
    this.#deadline = deadline(sent, waited, expiresIn);
    this.#left = expiresIn;
    this.#received = received.monotonic;
  }

  readonly #tick = (): void => {
    if (this.#lost) return;
    const remaining = this.remaining();
    if (remaining <= 0) {
      this.#lose(this.#trouble);
      return;
    }
    // When only two thirds of the lease are left to rely on: two more tries fit before it ends.
    const until = Math.max(remaining - (this.#lease * 2) / 3, this.#extendAgainAt - monotonic());
    if (until <= 0) this.#extending ??= this.#extend();
    const pause = Math.min(TICK, remaining, until > 0 ? until : TICK);
    this.#stopTicking = later(Math.max(1, pause), this.#tick);
  };

  async #extend(): Promise<void> {
    const { key, uuid } = this;
    // So that at most one lease is left: the time used since the last extension. Counted from the
    // answer's arrival, which is after the cluster counted: never too much.
    const unused = Math.max(0, this.#left - (monotonic() - this.#received));
    const extendBy = Math.max(1, Math.floor(Math.min(this.#lease, FILL_MAX) - unused));
    try {
      const reply = await this.#transport.call({
        method: 'POST',
        path: '/lock/extend',
        body: { key, uuid, extendBy },
        named: true,
        // A node that hangs must not use up what is left: there is time for the other two.
        grace: Math.max(EXTEND_GRACE_MIN, this.#lease / 6),
        signal: this.#over.signal,
      });
      if (reply.error) throw reply.error;
      if (!hasNumbers(reply, 'expiresIn', 'fencingToken')) throw notUnderstood();
      const { expiresIn, fencingToken } = reply.body as ExtendResponse;
      if (this.#lost) return;
      // Under the same uuid, but another grant than ours.
      if (fencingToken !== this.fencingToken) {
        this.#lose(undefined);
        return;
      }
      this.#renew(reply, 0, expiresIn);
      this.#trouble = undefined;
    } catch (error) {
      if (this.#over.signal.aborted) return;
      this.#trouble = error;
      this.#extendAgainAt = monotonic() + EXTEND_AGAIN;
      if (isOver(error)) this.#lose(error);
    } finally {
      this.#extending = undefined;
    }
  }

  #lose(cause: unknown): LockLostError {
    if (!this.#lost) {
      const why = cause instanceof Error ? cause.message : 'it was not extended in time';
      const message = `the lock ${JSON.stringify(this.key)} was lost: ${why}`;
      this.#lost = new LockLostError(message, { code: 'lock_lost', cause });
      this.#over.abort();
      this.#routine.abort(this.#lost);
    }
    return this.#lost;
  }
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- defined right below
export interface Lock extends AsyncDisposable {
  /** {@link Lock.release}, at the end of `await using`. Missing where the runtime does not have that. */
  [Symbol.asyncDispose]: () => Promise<void>;
}

// Where the symbol is missing, a method in the class would be called "undefined".
if ((Symbol as { asyncDispose?: symbol }).asyncDispose) {
  Object.defineProperty(Lock.prototype, Symbol.asyncDispose, {
    async value(this: Lock) {
      await this.release();
    },
  });
}

/** Gives a lock or a place in line back, for at most 2 s. Never rejects: resolves to what went wrong. */
export async function giveBack(
  transport: Transport,
  key: string,
  uuid: string,
): Promise<EvermindError | undefined> {
  const end = new AbortController();
  const timer = setTimeout(() => {
    end.abort();
  }, RELEASE_MAX);
  try {
    const reply = await transport.call({
      method: 'POST',
      path: '/lock/release',
      body: { key, uuid },
      named: true,
      grace: RELEASE_GRACE,
      signal: end.signal,
    });
    return reply.error;
  } catch (error) {
    return EvermindError.is(error) ? error : unanswered();
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the cluster says that the grant has ended. */
function isOver(error: unknown): boolean {
  return NotOwnerError.is(error) || LockNotFoundError.is(error) || LockLostError.is(error);
}
