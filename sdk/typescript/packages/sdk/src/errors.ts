import type { Problem } from './contract.js';

/** Names an error's classes across copies of this package: one application may load two. */
const KINDS = Symbol.for('evermind.error.kinds');

/** What is known of a failure beside its message. */
export interface ErrorDetails {
  /** Which failure: the API's `code`, or one of this client's own. */
  readonly code: string;
  /** The HTTP status as it is or, under `softFail`, would have been; left out where no node answered. */
  readonly status?: number | undefined;
  /** The server's name for the request, to find it in its logs. */
  readonly requestId?: string | undefined;
  /** How long to stay away, in ms, if the server said so. */
  readonly retryAfter?: number | undefined;
  /** The answer's body: an object of the API, or the text of someone else's answer (a proxy's). */
  readonly body?: Problem | string | undefined;
  /** What led to it. */
  readonly cause?: unknown;
}

/**
 * Any failure that this client reports. `instanceof` holds across the ESM and the CJS copy of this
 * package, and across versions; so does {@link EvermindError.is}.
 */
export class EvermindError extends Error implements ErrorDetails {
  readonly code: string;
  readonly status: number | undefined;
  readonly requestId: string | undefined;
  readonly retryAfter: number | undefined;
  readonly body: Problem | string | undefined;

  constructor(message: string, details: ErrorDetails) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.code = details.code;
    this.status = details.status;
    this.requestId = details.requestId;
    this.retryAfter = details.retryAfter;
    this.body = details.body;
  }

  /**
   * What is known of it as plain data. `structuredClone` and `postMessage` keep no more of an error than
   * its message: send this instead.
   */
  toJSON(): object {
    const { name, message, code, status, requestId, retryAfter, body } = this;
    return { name, message, code, status, requestId, retryAfter, body };
  }

  /** Whether `value` is an error of this class or of one below it, whichever copy made it. */
  static is<T extends typeof EvermindError>(this: T, value: unknown): value is InstanceType<T> {
    return value instanceof this;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // A caller's own subclass has no kind, and means what it says.
    if (!Object.hasOwn(this, KINDS)) return Function.prototype[Symbol.hasInstance].call(this, value);
    const kinds = (value as { [KINDS]?: unknown } | null | undefined)?.[KINDS];
    return Array.isArray(kinds) && kinds.includes((this as unknown as { [KINDS]: string })[KINDS]);
  }
}

/** The lock was held by another until the end of the wait (`lock_held`); `body.holder` says more. */
export class LockNotAcquiredError extends EvermindError {}
/** Another uuid holds the lock, or this one still waits for it (`not_owner`). */
export class NotOwnerError extends EvermindError {}
/** Nobody holds the lock: never taken, given back, or its lease ran out (`lock_not_found`). */
export class LockNotFoundError extends EvermindError {}
/**
 * The lock was had, and has been lost or may have been (`lock_lost`; `grant_ended` where the server
 * says so). What was done last under it may have overlapped with another holder.
 */
export class LockLostError extends EvermindError {}
/** The licence's allowance is spent (`quota_exceeded`). */
export class QuotaExceededError extends EvermindError {}
/** The licence is unknown, expired or revoked (`licence_inactive`). */
export class LicenceInactiveError extends EvermindError {}
/** The API key is missing, unknown or deleted (`unauthorized`). */
export class AuthError extends EvermindError {}
/** Too many requests, waiters, locks or idempotency keys (`rate_limited`, `limit_reached`). */
export class RateLimitedError extends EvermindError {}
/**
 * No leader, so nothing was done (`no_leader`), or no node answered (`unreachable`): then a request
 * that was sent before its connection broke may have been carried out.
 */
export class UnavailableError extends EvermindError {}
/** The request was passed on, and what came of it is not known (`outcome_unknown`). */
export class OutcomeUnknownError extends EvermindError {}
/**
 * The request is wrong, and no repetition will cure it (`invalid_request`, `body_too_large`,
 * `unsupported_media_type`, `idempotency_mismatch`); the message says what is allowed.
 */
export class InvalidRequestError extends EvermindError {}

/** The classes with their names as text, which no minifier changes. */
const CLASSES = {
  EvermindError,
  LockNotAcquiredError,
  NotOwnerError,
  LockNotFoundError,
  LockLostError,
  QuotaExceededError,
  LicenceInactiveError,
  AuthError,
  RateLimitedError,
  UnavailableError,
  OutcomeUnknownError,
  InvalidRequestError,
};

for (const [name, kind] of Object.entries(CLASSES)) {
  Object.defineProperty(kind, KINDS, { value: name });
  Object.defineProperty(kind.prototype, 'name', { value: name, configurable: true, writable: true });
  Object.defineProperty(kind.prototype, KINDS, { value: ['EvermindError', name] });
}

const BY_CODE: Record<string, typeof EvermindError> = {
  lock_held: LockNotAcquiredError,
  not_owner: NotOwnerError,
  lock_not_found: LockNotFoundError,
  lock_lost: LockLostError,
  grant_ended: LockLostError,
  quota_exceeded: QuotaExceededError,
  licence_inactive: LicenceInactiveError,
  unauthorized: AuthError,
  rate_limited: RateLimitedError,
  limit_reached: RateLimitedError,
  no_leader: UnavailableError,
  unreachable: UnavailableError,
  outcome_unknown: OutcomeUnknownError,
  invalid_request: InvalidRequestError,
  body_too_large: InvalidRequestError,
  unsupported_media_type: InvalidRequestError,
  idempotency_mismatch: InvalidRequestError,
  // Of a proxy, whose body is not ours.
  http_401: AuthError,
  http_429: RateLimitedError,
  http_504: OutcomeUnknownError,
};

/** The error of the class that belongs to its code. */
export function errorOf(message: string, details: ErrorDetails): EvermindError {
  // Of a proxy that cannot reach its node, or says that it cannot.
  const other = details.code.startsWith('http_5') ? UnavailableError : EvermindError;
  const kind = BY_CODE[details.code] ?? other;
  return new kind(message, details);
}
