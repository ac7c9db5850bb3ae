export type {
  AcquireFailure,
  AcquireOptions,
  AcquireResponse,
  ApiKeyResponse,
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
  Problem,
  ReleaseFailure,
  ReleaseOptions,
  ReleaseResponse,
  Reliance,
} from './contract.js';
export {
  AuthError,
  EvermindError,
  InvalidRequestError,
  LicenceInactiveError,
  LockLostError,
  LockNotAcquiredError,
  LockNotFoundError,
  NotOwnerError,
  OutcomeUnknownError,
  QuotaExceededError,
  RateLimitedError,
  UnavailableError,
  type ErrorDetails,
} from './errors.js';
export { Evermind, type EvermindOptions } from './evermind.js';
export type { Fetch, FetchInit } from './exchange.js';
export { createApiKey, deleteApiKey, type ApiKeyOptions } from './keys.js';
export type { HeldLock, Lock } from './lock.js';
