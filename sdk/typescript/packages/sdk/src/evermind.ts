import { deadline, left } from './clock.js';
import type {
  AcquireFailure,
  AcquireOptions,
  AcquireResponse,
  CallOptions,
  ClusterStatus,
  ExtendFailure,
  ExtendOptions,
  ExtendResponse,
  GetLockOptions,
  ListLocksOptions,
  LockOptions,
  LocksPage,
  LockView,
  Reliance,
  ReleaseFailure,
  ReleaseOptions,
  ReleaseResponse,
} from './contract.js';
import { invalid, sendable, text } from './checked.js';
import { type EvermindError, InvalidRequestError, LockNotFoundError } from './errors.js';
import { type Fetch, type Reply, hasNumbers, notUnderstood } from './exchange.js';
import { type HeldLock, Lock, giveBack } from './lock.js';
import { around, under } from './nested.js';
import { throwIfAborted } from './timers.js';
import { Transport } from './transport.js';
import { uuid } from './uuid.js';

/** How a client finds its cluster, and as whom. */
export interface EvermindOptions {
  /** An API key, as `evermind keys create` prints it. */
  readonly apiKey: string;
  /**
   * The cluster's nodes, as `http://host:port`: one or several. The client begins at any of them, stays
   * with one as long as it answers, and goes on to the next when it does not. Left out, it is the cluster of
   * `evermind dev` on this machine.
   */
  readonly endpoint?: string | readonly string[] | undefined;
  /** Put before the key of every lock, as it is: `billing:`, say. */
  readonly prefix?: string | undefined;
  /** Used instead of the global `fetch`, which otherwise is looked up at each request. */
  readonly fetch?: Fetch | undefined;
}

/** Without `softFail`, for certain: what may be either resolves to either. */
interface Hard {
  readonly softFail?: false | null | undefined;
}

/** The longest waiting window that the server takes, in ms. */
const WINDOW_MAX = 600_000;
/** The most characters that a uuid may have. */
const UUID_MAX = 128;
/** The server's defaults, to reckon the longest wait from. */
const RETRY_ATTEMPTS = 10;
const RETRY_DELAY = 500;

/**
 * A client of one Evermind cluster.
 *
 * Every call goes on for at most 30 s of trouble (network failures, 429, 503, 504) with exponential
 * backoff and full jitter, under one `Idempotency-Key`: however often it is sent, it is carried out
 * once. Then, and for every other failure, it rejects with an {@link EvermindError}.
 */
export class Evermind {
  readonly #transport: Transport;
  readonly #prefix: string;
  /** The uuids that locks of this client are held under, or asked for, by the callers' own wish. */
  readonly #adopted = new Set<string>();

  /** @throws TypeError for options that no call could be made with. */
  constructor(options: EvermindOptions) {
    // Plain JavaScript leaves it out.
    const { apiKey, endpoint, prefix, fetch } = (options as EvermindOptions | undefined) ?? { apiKey: '' };
    if (typeof apiKey !== 'string' || !/^[!-~]+$/.test(apiKey)) {
      throw new TypeError('apiKey is missing, or has characters that a header cannot carry');
    }
    this.#transport = new Transport(endpoint, { Authorization: `Bearer ${apiKey}` }, fetch);
    this.#prefix = prefix ?? '';
  }

  /**
   * Runs `routine` while the lock is held, and resolves to its result. The lease is extended as long
   * as it runs, and given back when it ends, whatever came of it.
   *
   * The routine must stop when its `signal` is aborted: the lock is lost, or about to be, or the
   * caller's own signal was aborted. This client cannot stop it, and waits for it to end. Give the
   * `fencingToken` to whatever the lock protects.
   *
   * A lock is not re-entrant: a routine that asks for the lock it runs under is refused at once, with the
   * code `reentrant`, where the runtime can tell (Node, Deno, Bun); elsewhere it waits for itself.
   *
   * @throws what `routine` throws; {@link LockLostError} if the lock was lost meanwhile, although
   * `routine` returned; what {@link Evermind.acquire} throws, and then `routine` never ran.
   */
  async withLock<T>(options: LockOptions, routine: (lock: HeldLock) => Promise<T> | T): Promise<T> {
    const lock = await this.lock(options);
    let result: T;
    try {
      result = await under(lock, () => routine(lock));
    } catch (error) {
      // The routine's own error is what its caller has to know.
      await lock.release().catch(() => undefined);
      throw error;
    }
    await lock.release();
    return result;
  }

  /**
   * Takes a lock, and extends its lease until it is given back: `await using lock = await
   * evermind.lock(...)` where the runtime has that, else {@link Lock.release} in a `finally`.
   *
   * @throws what {@link Evermind.acquire} throws; the signal's reason, if it was aborted meanwhile.
   */
  async lock(options: LockOptions): Promise<Lock> {
    const { adopt, ...rest } = options;
    const adopted = adopt === true && options.uuid != null;
    const asked = this.#prefixed({ ...rest, uuid: adopted ? options.uuid : unique(options.uuid) });
    if (around(this, asked.key)) {
      throw new InvalidRequestError(
        `the lock ${JSON.stringify(asked.key)} is held by the routine that asks for it: use the lock that it was given`,
        { code: 'reentrant' },
      );
    }
    const name = JSON.stringify([asked.key, asked.uuid]);
    if (this.#adopted.has(name)) {
      throw invalid(
        `uuid: this client has a lock on this key under ${JSON.stringify(asked.uuid)}: a uuid is one holder`,
      );
    }
    let own = adopted;
    if (own) this.#adopted.add(name);
    const over = () => {
      // Once: the name may be another lock's by then.
      if (own) this.#adopted.delete(name);
      own = false;
    };
    let lock: Lock;
    try {
      const reply = await this.#acquire(asked, !adopted);
      if (reply.error) throw reply.error;
      lock = new Lock(this.#transport, reply, { owner: this, ours: !adopted, signal: options.signal, over });
    } catch (error) {
      over();
      throw error;
    }
    try {
      throwIfAborted(options.signal);
      await lock.begin();
      throwIfAborted(options.signal);
    } catch (error) {
      await lock.release().catch(() => undefined);
      throw error;
    }
    return lock;
  }

  /**
   * Takes a lock for one lease, standing in line for it if it is held. Nothing extends it: see
   * {@link Evermind.lock}. A wait of more than 13 s goes in slices, which nobody sees but a proxy.
   *
   * If it is called off or gives up under a uuid that was made here, a place in line or a grant that
   * raced is given back in the background, within 2 s or not at all. Under the caller's own `uuid`
   * that is left to the caller: it may hold the lock from before.
   */
  acquire(options: AcquireOptions & Hard): Promise<AcquireResponse>;
  acquire(options: AcquireOptions): Promise<AcquireResponse | AcquireFailure>;
  async acquire(options: AcquireOptions): Promise<AcquireResponse | AcquireFailure> {
    const reply = await this.#acquire(this.#prefixed(options), options.uuid == null);
    return reliable(bodyOf(reply) as AcquireResponse, reply);
  }

  /** Adds to what is left of a lease. */
  extend(options: ExtendOptions & Hard): Promise<ExtendResponse>;
  extend(options: ExtendOptions): Promise<ExtendResponse | ExtendFailure>;
  async extend({ signal, ...body }: ExtendOptions): Promise<ExtendResponse | ExtendFailure> {
    const reply = await this.#operate('/lock/extend', this.#prefixed(body), signal);
    if (!reply.error && !hasNumbers(reply, 'expiresIn')) throw notUnderstood();
    return reliable(bodyOf(reply) as ExtendResponse, reply);
  }

  /** Gives a lock, or a place in line, back. */
  release(options: ReleaseOptions & Hard): Promise<ReleaseResponse>;
  release(options: ReleaseOptions): Promise<ReleaseResponse | ReleaseFailure>;
  async release({ signal, ...body }: ReleaseOptions): Promise<ReleaseResponse | ReleaseFailure> {
    const reply = await this.#operate('/lock/release', this.#prefixed(body), signal);
    return bodyOf(reply) as ReleaseResponse;
  }

  /** A held lock as others may see it, or null if it is free. `stale`: as this node remembers it. */
  async getLock(options: GetLockOptions): Promise<LockView | null> {
    // Not in the path: URLs fold the keys "." and "..", and proxies decode what is encoded there.
    const query: Record<string, string> = { key: this.#prefix + text('key', options.key) };
    if (options.stale) query['consistency'] = 'stale';
    try {
      return await this.#look('/v1/locks', query, options.signal);
    } catch (error) {
      if (LockNotFoundError.is(error)) return null;
      throw error;
    }
  }

  /** One page of the locks whose keys start with `prefix`, which comes after the client's own. */
  async listLocks(options: ListLocksOptions = {}): Promise<LocksPage> {
    const query: Record<string, string> = {};
    const prefix = this.#prefix + text('prefix', options.prefix ?? '');
    if (prefix) query['prefix'] = prefix;
    if (options.cursor != null) query['cursor'] = text('cursor', options.cursor);
    if (options.limit !== undefined) query['limit'] = String(sendable({ limit: options.limit }).limit);
    if (options.stale) query['consistency'] = 'stale';
    return this.#look('/v1/locks', query, options.signal);
  }

  /** What the node that answers knows of its cluster. */
  cluster({ signal }: CallOptions = {}): Promise<ClusterStatus> {
    return this.#look('/v1/cluster', {}, signal);
  }

  #prefixed<T extends { readonly key: string }>(body: T): T {
    // What is not a string is the server's to refuse.
    return typeof body.key === 'string' ? { ...body, key: this.#prefix + body.key } : body;
  }

  async #operate(path: string, body: object, signal: CallOptions['signal'], window = 0): Promise<Reply> {
    return this.#transport.call({ method: 'POST', path, body: sendable(body), named: true, window, signal });
  }

  async #look<T>(path: string, query: Record<string, string>, signal: CallOptions['signal']): Promise<T> {
    const search = new URLSearchParams(query).toString();
    const url = search ? `${path}?${search}` : path;
    return bodyOf(await this.#transport.call({ method: 'GET', path: url, signal })) as T;
  }

  /** `ours`: whether a grant that nobody hears of is ours to give back. */
  async #acquire({ signal, ...options }: AcquireOptions, ours: boolean): Promise<Reply> {
    throwIfAborted(signal);
    const asked = sendable({ ...options, uuid: options.uuid ?? uuid() });
    // The API takes null for what is left out. What is not a number in range the server will refuse.
    const attempts = options.retryAttempts ?? RETRY_ATTEMPTS;
    const step = (options.retryDelay ?? RETRY_DELAY) + (options.retryJitter ?? 0);
    const window = Math.min(attempts * step, WINDOW_MAX) || 0;
    try {
      const reply = await this.#operate('/lock/acquire', asked, signal, window);
      if (!reply.error && !isGrant(reply)) throw notUnderstood();
      if (ours && isUnsure(reply.error)) void giveBack(this.#transport, asked.key, asked.uuid);
      return reply;
    } catch (error) {
      if (ours) void giveBack(this.#transport, asked.key, asked.uuid);
      throw error;
    }
  }
}

/** A uuid that no other acquisition has, and that begins with the caller's. */
function unique(own: unknown): string {
  if (own == null) return uuid();
  if (typeof own !== 'string') throw invalid('uuid must be a string');
  const whole = `${own}.${uuid()}`;
  if (own === '' || whole.length > UUID_MAX) {
    throw invalid(
      `uuid must have 1 to ${UUID_MAX + own.length - whole.length} characters: a unique part is added`,
    );
  }
  return whole;
}

/** Whether an answer has all that a lock needs in order to be relied on, and given back. */
function isGrant(reply: Reply): boolean {
  const { acquired, config } = (reply.body ?? {}) as { acquired?: unknown; config?: unknown };
  return acquired === true && Boolean(config) && hasNumbers(reply, 'expiresIn', 'waited', 'fencingToken');
}

/**
 * Whether the lock may be held all the same. Nothing but a refusal says that it is not: a proxy may
 * have broken the answer, and what 429 and 503 refuse is the last try, not those before it.
 */
function isUnsure(error: EvermindError | undefined): boolean {
  const status = error?.status ?? 0;
  return error !== undefined && (status < 400 || status >= 500 || status === 429);
}

/** An answer's body: what was asked for, or a failure that was asked to be soft. */
function bodyOf({ body, error, softened }: Reply): unknown {
  if (error && !softened) throw error;
  return body;
}

function reliable<T extends object>(body: T, { sent, error }: Reply): T & Reliance {
  if (!error) {
    const { waited = 0, expiresIn } = body as { waited?: number; expiresIn: number };
    const end = deadline(sent, waited, expiresIn);
    Object.defineProperty(body, 'remaining', { value: () => left(end) });
  }
  return body as T & Reliance;
}
