import { createRequire } from 'node:module';

import { describe, expect, test } from 'vitest';

import * as esm from '@evermind-sh/sdk';

import { errorOf } from '../../packages/sdk/src/errors.ts';

const cjs = createRequire(import.meta.url)('@evermind-sh/sdk') as typeof esm;

const CODES: [string, string][] = [
  ['lock_held', 'LockNotAcquiredError'],
  ['not_owner', 'NotOwnerError'],
  ['lock_not_found', 'LockNotFoundError'],
  ['grant_ended', 'LockLostError'],
  ['lock_lost', 'LockLostError'],
  ['quota_exceeded', 'QuotaExceededError'],
  ['licence_inactive', 'LicenceInactiveError'],
  ['unauthorized', 'AuthError'],
  ['rate_limited', 'RateLimitedError'],
  ['limit_reached', 'RateLimitedError'],
  ['no_leader', 'UnavailableError'],
  ['unreachable', 'UnavailableError'],
  ['outcome_unknown', 'OutcomeUnknownError'],
  ['invalid_request', 'InvalidRequestError'],
  ['body_too_large', 'InvalidRequestError'],
  ['unsupported_media_type', 'InvalidRequestError'],
  ['idempotency_mismatch', 'InvalidRequestError'],
  ['something_new', 'EvermindError'],
];

describe('an error', () => {
  test.each(CODES)('of code %s is a %s', (code, name) => {
    const cause = new Error('cause');
    const error = errorOf('message', { code, status: 418, requestId: 'r', cause });
    expect(error).toMatchObject({ name, code, status: 418, requestId: 'r', cause, message: 'message' });
    expect(error).toBeInstanceOf(Error);
    // The class of the other copies, by name.
    const kinds = Object.entries(esm).filter(([kind]) => kind.endsWith('Error')) as [
      string,
      typeof esm.EvermindError,
    ][];
    expect(kinds).toHaveLength(12);
    for (const [kind, theirs] of kinds) {
      expect(error instanceof theirs, kind).toBe(kind === name || kind === 'EvermindError');
      expect(theirs.is(error), kind).toBe(error instanceof theirs);
    }
  });

  test('is the same to the ESM and the CJS copy, which are two', () => {
    expect(cjs.LockLostError).not.toBe(esm.LockLostError);
    const error = new cjs.LockLostError('m', { code: 'lock_lost' });
    expect(error).toBeInstanceOf(esm.LockLostError);
    expect(error).toBeInstanceOf(esm.EvermindError);
    expect(error).not.toBeInstanceOf(esm.NotOwnerError);
    expect(esm.LockLostError.is(error)).toBe(true);
    expect(String(error)).toBe('LockLostError: m');
  });

  test('is nothing else', () => {
    for (const other of [undefined, null, 0, 'lock_lost', {}, new Error('x'), { code: 'lock_lost' }]) {
      expect(esm.EvermindError.is(other)).toBe(false);
    }
  });

  test("of a caller's own class is of that class alone", () => {
    class Own extends esm.LockLostError {}
    const own = new Own('m', { code: 'lock_lost' });
    expect(own).toBeInstanceOf(Own);
    expect(own).toBeInstanceOf(esm.LockLostError);
    expect(new esm.LockLostError('m', { code: 'lock_lost' })).not.toBeInstanceOf(Own);
  });
});
