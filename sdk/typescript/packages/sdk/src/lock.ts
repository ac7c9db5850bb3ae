/// <reference lib="esnext.disposable" preserve="true" />
import { type Moment, deadline, left, monotonic } from './clock.js';
import type { AcquireResponse, ExtendResponse, Reliance } from './contract.js';
import { EvermindError, LockLostError, LockNotFoundError, NotOwnerError } from './errors.js';
import { type Reply, hasNumbers, notUnderstood, unanswered } from './exchange.js';
import { follow, later } from './timers.js';
import type { Transport } from './transport.js';

/** How long a node may be silent about an extension, at least, in ms, before another is asked. */
const EXTEND_HEDGE_MIN = 250;
const EXTEND_HEDGE_MAX = 1_000;
/** To what a lease is filled up at most, in ms: the server refuses more than a day, by its own count. */
const FILL_MAX = 86_340_000;
/** Between two extensions that failed for another reason than the network, in ms. */
const EXTEND_AGAIN = 500;
/** Timers stand still while the machine sleeps; leases do not. The longest of them, in ms. */
const TICK = 200;
/**
 * How long a lock may be in doubt, in ms: the wall clock alone has passed its deadline, because it was
 * set, or because the machine slept and the monotonic clock stood still. The cluster knows.
 */
const DOUBT_MAX = 1_000;
/** How long a node may be silent then before another is asked: within the whole, three are. */
const DOUBT_HEDGE = 250;
/** How long a lock is tried to be given back, in ms. */
const RELEASE_MAX = 2_000;
/** How long a node may be silent about that before another is asked: within the whole, three are. */
const RELEASE_HEDGE = 400;

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
   * passed by the monotonic clock (no network is needed to know that), the wall clock has passed it and
   * the cluster does not confirm the lock within 1 s, or the cluster says that the lock is gone. Aborted as well when the caller's own signal is, with its reason: then the
   * lock is held until it is given back. Timers tell, at most 200 ms late (where the process was
   * paused, as soon as it goes on); {@link Reliance.remaining} reads the clocks.
   */
  readonly signal: AbortSignal;
}

/** What a lock has to know beside the grant. */
export interface Terms {
  /** The client that it was taken with. */
  readonly owner: object;
  /** Whether the uuid was made for this lock: then no other grant has it. */
  readonly ours: boolean;
  readonly signal: AbortSignal | null | undefined;
  /** Is called when the lock is over. */
  readonly over: () => void;
}

/** A lock whose lease is extended until it is given back; made by {@link Evermind.lock}. */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- the rest is below the class
export class Lock implements HeldLock {
  readonly key: string;
  readonly uuid: string;
  readonly fencingToken: number;
  readonly #transport: Transport;
  readonly #terms: Terms;
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
  /** Since when the lock is in doubt (monotonic). */
  #doubted: number | undefined;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;
  #stopTicking: () => void = () => undefined;

  /** @internal */
  constructor(transport: Transport, reply: Reply, terms: Terms) {
    const grant = reply.body as AcquireResponse;
    this.key = grant.config.key;
    this.uuid = grant.config.uuid;
    this.fencingToken = grant.fencingToken;
    this.#transport = transport;
    this.#terms = terms;
    this.#lease = grant.config.lease;
    this.#unfollow = follow(this.#routine, terms.signal);
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
   * Whether that client holds it by this lock, for all that is known here.
   *
   * @internal
   */
  isHeldBy(owner: object): boolean {
    return this.#terms.owner === owner && !this.#lost && !this.#released;
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
    if (this.#isPast()) this.#lose(this.#trouble);
    const doubted = this.remaining() <= 0;
    this.#stopTicking();
    this.#over.abort();
    this.#unfollow();
    this.#terms.over();
    // The caller may have taken the lock anew under its own uuid: that grant is not this one's to end.
    if (this.#lost && !this.#terms.ours) throw this.#lost;
    const error = await giveBack(this.#transport, this.key, this.uuid);
    // A release that is confirmed says that the lock was held until then.
    if (isOver(error) || (doubted && error)) this.#lose(error);
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
    if (this.#isPast()) {
      this.#lose(this.#trouble);
      return;
    }
    const remaining = this.remaining();
    if (remaining > 0) this.#doubted = undefined;
    else if (this.#doubted === undefined) {
      this.#doubted = monotonic();
      void this.#confirm();
    } else if (monotonic() - this.#doubted >= DOUBT_MAX) {
      this.#lose(this.#trouble);
      return;
    }
    // When only two thirds of the lease are left to rely on: two more tries fit before it ends.
    const until = Math.max(remaining - (this.#lease * 2) / 3, this.#extendAgainAt - monotonic());
    if (until <= 0) this.#extending ??= this.#extend();
    const pause = Math.min(TICK, remaining > 0 ? remaining : TICK, until > 0 ? until : TICK);
    this.#stopTicking = later(Math.max(1, pause), this.#tick);
  };

  /** Whether the deadline has passed by the clock that nobody sets: then it has, whatever else. */
  #isPast(): boolean {
    return this.#deadline.monotonic <= monotonic();
  }

  /** Asks the cluster whether the lock is held: it is moved by the least there is. */
  async #confirm(): Promise<void> {
    await this.#ask(1, DOUBT_HEDGE);
  }

  async #extend(): Promise<void> {
    // So that at most one lease is left: the time used since the last extension. Counted from the
    // answer's arrival, which is after the cluster counted: never too much.
    const unused = Math.max(0, this.#left - (monotonic() - this.#received));
    const extendBy = Math.max(1, Math.floor(Math.min(this.#lease, FILL_MAX) - unused));
    // A node that hangs must not use up what is left: there is time for the other two.
    await this.#ask(extendBy, Math.max(EXTEND_HEDGE_MIN, Math.min(this.#lease / 10, EXTEND_HEDGE_MAX)));
    this.#extending = undefined;
  }

  /** Moves the end of the lease. Never rejects. */
  async #ask(extendBy: number, hedge: number): Promise<void> {
    const { key, uuid } = this;
    try {
      const reply = await this.#transport.call({
        method: 'POST',
        path: '/lock/extend',
        body: { key, uuid, extendBy },
        named: true,
        hedge,
        signal: this.#over.signal,
        onTrouble: (error) => {
          this.#trouble = error;
        },
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
    }
  }

  #lose(cause: unknown): LockLostError {
    if (!this.#lost) {
      const why = cause instanceof Error ? cause.message : 'it was not extended in time';
      const message = `the lock ${JSON.stringify(this.key)} was lost: ${why}`;
      this.#lost = new LockLostError(message, { code: 'lock_lost', cause });
      this.#over.abort();
      this.#terms.over();
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
      hedge: RELEASE_HEDGE,
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
