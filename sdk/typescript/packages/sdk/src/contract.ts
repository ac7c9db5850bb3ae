import type { components } from './generated/schema.js';

type Schemas = components['schemas'];

/** Every call can be called off; it then rejects with the signal's reason. */
export interface CallOptions {
  readonly signal?: AbortSignal | null | undefined;
}

/** Leaves a field out by `undefined` as well as by absence. */
type Loose<T> = { readonly [K in keyof T]: T[K] | (undefined extends T[K] ? undefined : never) };

/** What to take, and how long to wait for it. Whatever is left out has the server's default. */
export interface AcquireOptions extends Loose<Schemas['AcquireRequest']>, CallOptions {}

/** What {@link Evermind.lock} and {@link Evermind.withLock} take. */
export interface LockOptions extends Omit<AcquireOptions, 'softFail' | 'uuid'> {
  /**
   * A name for this acquisition. A uuid is one holder: two callers with the same would both be granted
   * the same lock. So a part that is unique is added (`<uuid>.<36 characters>`), and this may have 91
   * characters at most, unless `adopt` is set.
   */
  readonly uuid?: string | null | undefined;
  /**
   * Takes `uuid` as it is: if it holds the lock already (an `acquire` of another process, say), that
   * grant is taken over. No other caller may use the uuid meanwhile; within one client that is refused.
   */
  readonly adopt?: boolean | undefined;
}

/** Which lease to move the end of, and by how much. */
export interface ExtendOptions extends Loose<Schemas['ExtendRequest']>, CallOptions {}

/** What to give back. */
export interface ReleaseOptions extends Loose<Schemas['ReleaseRequest']>, CallOptions {}

/** Which lock to look at. */
export interface GetLockOptions extends CallOptions {
  readonly key: string;
  /** As the node that answers remembers it, however old: it asks no other. */
  readonly stale?: boolean | undefined;
}

/** Which locks to list. */
export interface ListLocksOptions extends CallOptions {
  /** Only keys that start with this. */
  readonly prefix?: string | undefined;
  /** Of the page before. */
  readonly cursor?: string | null | undefined;
  /** How many at most: 1 to 1000. */
  readonly limit?: number | undefined;
  /** As the node that answers remembers them, however old. */
  readonly stale?: boolean | undefined;
}

/** A lease, as the answer to a request tells of it. */
export interface Reliance {
  /**
   * For how many ms the lock may still be relied on: until the moment before the answered request
   * was sent + `waited` + `expiresIn` less 1%, by the monotonic or the wall clock, whichever gets
   * there first. Negative once that has passed. Reads the clocks at each call; not part of the JSON.
   * Where the wall clock alone has passed it, the lock may be held all the same: a lock that is kept
   * (`withLock`, `lock`) asks the cluster then.
   */
  readonly remaining: () => number;
}

/** A lock that is held. */
export type AcquireResponse = Schemas['AcquireResponse'] & Reliance & { readonly acquired: true };
/** A lease that ends later now. */
export type ExtendResponse = Schemas['ExtendResponse'] & Reliance & { readonly extended: true };
/** A lock, or a place in line, that was given back. */
export type ReleaseResponse = Schemas['ReleaseResponse'] & { readonly released: true };

/** A failure as the API tells it: RFC 9457's fields and the operation's own. */
export type Problem = Schemas['Problem'];
/** An acquire that failed, under `softFail`. */
export type AcquireFailure = Problem & { readonly acquired: false | null };
/** An extend that failed, under `softFail`. */
export type ExtendFailure = Problem & { readonly extended: false | null };
/** A release that failed, under `softFail`. */
export type ReleaseFailure = Problem & { readonly released: false | null };

/** A held lock as others may see it. */
export type LockView = Schemas['LockView'];
/** Some of an identity's locks; `cursor` is for the next page, null at the end. */
export type LocksPage = Schemas['LocksPage'];
/** What a node knows of its cluster. */
export type ClusterStatus = Schemas['ClusterStatus'];
/** A new API key. */
export type ApiKeyResponse = Schemas['ApiKeyResponse'];
