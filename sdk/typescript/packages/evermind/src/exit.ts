import { EvermindError } from '@evermind-sh/sdk';

/** Exit codes; the names are sysexits.h's where that has one. */
export const EXIT = {
  /** Anything without a code of its own. */
  other: 1,
  /** Wrong usage. */
  usage: 2,
  /** The lock is not held, not any more, or not by this uuid; there is no such API key. */
  notHeld: 3,
  /** `EX_UNAVAILABLE`: no node, no leader, or the outcome is not known. */
  unavailable: 69,
  /** `EX_TEMPFAIL`: held by another until the end of the wait, or a limit is reached. */
  notAcquired: 75,
  /** The lock was lost while the command ran. */
  lost: 76,
  /** `EX_NOPERM`: the API key or its licence was refused. */
  refused: 77,
  /** As a shell: found, but cannot be started. */
  notStarted: 126,
  /** As a shell: no such command. */
  notFound: 127,
} as const;

/** Why a command failed, what to do next, and the code to exit with. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly code: number,
    readonly hint?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Of any error. */
  static of(error: unknown): Failure {
    if (error instanceof Failure) return error;
    if (EvermindError.is(error)) {
      const [code, hint] = BY_CODE[error.code] ?? OTHERWISE;
      const message =
        error.requestId === undefined ? error.message : `${error.message} (request ${error.requestId})`;
      return new Failure(message, code, hint, { cause: error });
    }
    return new Failure(error instanceof Error ? error.message : String(error), EXIT.other);
  }

  /** Of wrong usage. */
  static usage(message: string, hint?: string): Failure {
    return new Failure(message, EXIT.usage, hint);
  }

  /** Says so on stderr, and has the process exit with the code once all its work is done. */
  report(): void {
    process.stderr.write(`error: ${this.message}\n`);
    if (this.hint !== undefined) process.stderr.write(`hint: ${this.hint}\n`);
    process.exitCode = this.code;
  }
}

const ALLOWED = 'see --help for what is allowed';
const LICENCE = 'ask the operator of the cluster for an active licence';
const LATER = 'try again later';
const OTHERWISE: [number, string] = [EXIT.other, "the nodes' logs may say more"];

/** What each of the API's codes means to a shell; the same as in the server's own command. */
const BY_CODE: Record<string, [number, string]> = {
  lock_held: [EXIT.notAcquired, 'wait longer with --wait, for example --wait 30s'],
  not_owner: [EXIT.notHeld, 'use the uuid that acquire printed'],
  lock_not_found: [EXIT.notHeld, 'it is free: never taken, released, or its lease ran out'],
  grant_ended: [EXIT.notHeld, 'the lock was had and has ended meanwhile: acquire it again'],
  invalid_request: [EXIT.usage, ALLOWED],
  body_too_large: [EXIT.usage, ALLOWED],
  unauthorized: [
    EXIT.refused,
    'give a valid key with --api-key or EVERMIND_API_KEY; `evermind keys create` makes one',
  ],
  licence_inactive: [EXIT.refused, LICENCE],
  quota_exceeded: [EXIT.refused, "the licence's allowance is spent: ask the operator for more"],
  api_key_not_found: [
    EXIT.notHeld,
    'give the licence key that it was made with: a licence deletes only its own keys',
  ],
  rate_limited: [EXIT.notAcquired, LATER],
  limit_reached: [EXIT.notAcquired, LATER],
  no_leader: [EXIT.unavailable, 'a majority of nodes must be up'],
  outcome_unknown: [EXIT.unavailable, 'acquire again with the same --uuid to learn it'],
  unreachable: [EXIT.unavailable, 'is the cluster running? --url or EVERMIND_BASE_URL says where'],
  not_understood: [EXIT.other, 'is --url the address of an Evermind node?'],
};
