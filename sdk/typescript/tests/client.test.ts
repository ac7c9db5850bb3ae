import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, describe, expect, test, vi } from 'vitest';

import { Evermind, InvalidRequestError, LockNotAcquiredError, type LockOptions } from '@evermind-sh/sdk';

import { Places } from '../packages/sdk/src/places.ts';
import { problem, scripted } from './harness/node.ts';
import { client, shared } from './harness/shared.ts';
import { until } from './harness/until.ts';

const evermind = client();

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

describe('an option that cannot be sent', () => {
  test('is refused by name, before anything is sent', async () => {
    let sent = 0;
    const silent = client({ fetch: () => ((sent += 1), Promise.reject(new Error('sent'))) });
    const wrong = [NaN, Infinity, -Infinity, 5n as unknown as number];
    for (const value of wrong) {
      for (const name of ['lease', 'retryAttempts', 'retryDelay', 'retryJitter']) {
        const options = { key: 'k', [name]: value };
        const refusal = { code: 'invalid_request', message: expect.stringContaining(`${name}: `) as string };
        await expect(silent.acquire(options)).rejects.toMatchObject(refusal);
        await expect(silent.acquire({ ...options, softFail: true })).rejects.toThrow(InvalidRequestError);
        await expect(silent.withLock(options, () => 0)).rejects.toMatchObject(refusal);
        await expect(silent.lock(options)).rejects.toMatchObject(refusal);
      }
      await expect(silent.extend({ key: 'k', uuid: 'u', extendBy: value })).rejects.toThrow(/^extendBy: /);
      await expect(silent.listLocks({ limit: value })).rejects.toThrow(/^limit: /);
    }
    for (const key of [undefined, 5, null, '\ud800', 'a\udc00b']) {
      await expect(silent.getLock({ key: key as string })).rejects.toThrow(InvalidRequestError);
    }
    await expect(silent.listLocks({ prefix: '\ud800' })).rejects.toThrow(InvalidRequestError);
    expect(sent).toBe(0);
  });

  test('a client without options says which is missing', () => {
    expect(() => new (Evermind as unknown as new () => Evermind)()).toThrow(/^apiKey is missing/);
  });
});

describe('a key', () => {
  test.for([
    '.',
    '..',
    'a/../b',
    './x',
    'a//b',
    '%2F',
    '100%',
    'a?b#c',
    'a+b',
    '🔒',
    'ключ',
    ' x ',
    'a\\b',
    '&key=z',
  ])('as odd as %j is looked at as it is locked', async (key, { expect }) => {
    const grant = await evermind.acquire({ key });
    expect(await evermind.getLock({ key })).toMatchObject({ key, fencingToken: grant.fencingToken });
    expect(await evermind.getLock({ key, stale: true })).toMatchObject({ key });
    await evermind.release({ key, uuid: grant.config.uuid });
    expect(await evermind.getLock({ key })).toBeNull();
  });
});

describe('fetch', () => {
  test('is looked up when it is used', async () => {
    const made = client();
    const real = globalThis.fetch;
    const seen: RequestInit[] = [];
    vi.stubGlobal('fetch', (url: string, init: RequestInit) => (seen.push(init), real(url, init)));
    await made.getLock({ key: 'fetch/none' });
    // What frameworks and browsers keep of it would be the past.
    expect(seen).toMatchObject([{ method: 'GET', cache: 'no-store' }]);
  });

  test('that is not there is told at once', async () => {
    vi.stubGlobal('fetch', undefined);
    const start = performance.now();
    await expect(client().acquire({ key: 'fetch/missing' })).rejects.toThrow(/no global fetch/);
    await expect(client().withLock({ key: 'fetch/missing' }, () => 0)).rejects.toThrow(/no global fetch/);
    expect(performance.now() - start).toBeLessThan(1_000);
    expect(() => client({ fetch: 'no' as unknown as typeof fetch })).toThrow(/fetch is not a function/);
  });
});

describe('a signal', () => {
  test('of many calls has one listener, and none when they are over', async () => {
    const { signal } = new AbortController();
    const warnings: Error[] = [];
    const warned = (warning: Error) => warnings.push(warning);
    process.on('warning', warned);
    const calls = Array.from({ length: 30 }, (_, nth) =>
      evermind.withLock({ key: `signal/${nth}`, signal }, () => sleep(200)),
    );
    await until('they are under way', () => getEventListeners(signal, 'abort').length > 0);
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    await Promise.all(calls);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    process.off('warning', warned);
    expect(warnings).toEqual([]);
  });

  test('may be null, as it may for fetch', async () => {
    const signal = null;
    const key = 'signal/null';
    const { uuid } = (await evermind.acquire({ key, signal })).config;
    await evermind.extend({ key, uuid, extendBy: 1, signal });
    expect(await evermind.getLock({ key, signal })).not.toBeNull();
    await evermind.release({ key, uuid, signal });
    expect(await evermind.withLock({ key, signal }, () => 1)).toBe(1);
  });

  test('that is aborted ends all its calls with its reason', async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const key = 'signal/all';
    await evermind.acquire({ key, lease: 60_000 });
    const calls = Array.from({ length: 12 }, () => evermind.acquire({ key, retryAttempts: 100, signal }));
    const results = Promise.allSettled(calls);
    await until('they stand in line', async () => (await evermind.getLock({ key }))?.waiting === 12);
    controller.abort('enough');
    expect(await results).toEqual(calls.map(() => ({ status: 'rejected', reason: 'enough' })));
    await until('the line is empty', async () => (await evermind.getLock({ key }))?.waiting === 0);
  });
});

describe('one uuid', () => {
  /** Runs two routines under these options, the second by `other`; gives how many ran at once. */
  async function twice(options: LockOptions, other: Evermind) {
    let now = 0;
    let most = 0;
    const routine = async () => {
      now += 1;
      most = Math.max(most, now);
      await sleep(300);
      now -= 1;
    };
    const results = await Promise.allSettled([
      evermind.withLock(options, routine),
      sleep(50).then(() => other.withLock(options, routine)),
    ]);
    return { most, results };
  }

  test('of two callers is two acquisitions, in one client and in two', async () => {
    for (const other of [evermind, client()]) {
      const { most, results } = await twice({ key: 'uuid/twice', uuid: 'worker-1' }, other);
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
      expect(most).toBe(1);
    }
  });

  test('begins with the name that the caller gave', async () => {
    await evermind.withLock({ key: 'uuid/name', uuid: 'host-7' }, ({ uuid }) => {
      expect(uuid).toMatch(/^host-7\.[0-9a-f-]{36}$/);
    });
    await evermind.withLock({ key: 'uuid/name', uuid: 'x'.repeat(91) }, ({ uuid }) => {
      expect(uuid).toHaveLength(128);
    });
    for (const uuid of ['', 'x'.repeat(92)]) {
      await expect(evermind.lock({ key: 'uuid/name', uuid })).rejects.toThrow(
        /uuid must have 1 to 91 characters/,
      );
    }
  });

  test('that is adopted takes a grant over, and is refused twice in one client', async () => {
    const key = 'uuid/adopt';
    const { fencingToken } = await evermind.acquire({ key, uuid: 'handed-over', lease: 20_000 });
    const options = { key, uuid: 'handed-over', adopt: true };
    await evermind.withLock(options, (lock) => {
      expect(lock.fencingToken).toBe(fencingToken);
      expect(lock.uuid).toBe('handed-over');
    });
    expect(await evermind.getLock({ key })).toBeNull();
    const { most, results } = await twice(options, evermind);
    expect(most).toBe(1);
    expect(results).toMatchObject([
      { status: 'fulfilled' },
      { status: 'rejected', reason: { message: expect.stringMatching(/a uuid is one holder/) as string } },
    ]);
    // Afterwards it may be used again.
    await evermind.withLock(options, () => 0);
  });
});

describe('a lock within itself', () => {
  test('is refused at once, and the outer one stays held', async () => {
    const key = 'nested/self';
    const start = performance.now();
    await evermind.withLock({ key }, async ({ fencingToken }) => {
      const refusal = { name: 'InvalidRequestError', code: 'reentrant' };
      await expect(evermind.withLock({ key }, () => 0)).rejects.toMatchObject(refusal);
      await expect(sleep(10).then(() => evermind.lock({ key }))).rejects.toMatchObject(refusal);
      expect(await evermind.withLock({ key: `${key}/other` }, () => 'inner')).toBe('inner');
      await evermind.withLock({ key: `${key}/other` }, () =>
        expect(evermind.withLock({ key }, () => 0)).rejects.toMatchObject(refusal),
      );
      expect(await evermind.getLock({ key })).toMatchObject({ fencingToken });
    });
    expect(performance.now() - start).toBeLessThan(3_000);
  });

  test('is what another client, or one beside it, has to wait for', async () => {
    const key = 'nested/beside';
    const once = { key, retryAttempts: 0 };
    await evermind.withLock({ key }, async () => {
      await expect(client().withLock(once, () => 0)).rejects.toThrow(LockNotAcquiredError);
    });
    const both = [1, 2].map((nth) => evermind.withLock({ key }, () => nth));
    expect(await Promise.all(both)).toEqual([1, 2]);
  });

  test('is free again for what the routine left behind', async () => {
    const key = 'nested/behind';
    let later: Promise<number> | undefined;
    await evermind.withLock({ key }, ({ signal }) => {
      later = sleep(300).then(() => evermind.withLock({ key }, () => (signal.aborted ? 1 : 2)));
    });
    expect(await later).toBe(2);
  });
});

describe('many clients', () => {
  test('do not all begin at the first node', async () => {
    const first = new Map<string, number>();
    for (let nth = 0; nth < 60; nth++) {
      const made = client({
        fetch: (url) => {
          const { origin } = new URL(url);
          first.set(origin, (first.get(origin) ?? 0) + 1);
          return Promise.resolve(Response.json({ locks: [], cursor: null }));
        },
      });
      await made.listLocks();
    }
    expect([...first.keys()].sort()).toEqual([...shared().endpoints].sort());
    expect(Math.max(...first.values())).toBeLessThan(40);
  });
});

describe('places in line', () => {
  test('are bounded, first come first served', async () => {
    const places = new Places(2);
    const { signal } = new AbortController();
    const order: number[] = [];
    const take = async (nth: number, signal: AbortSignal) => {
      const leave = await places.take(signal);
      if (!signal.aborted) order.push(nth);
      return leave;
    };
    const [first, second] = [await take(1, signal), await take(2, signal)];
    const controller = new AbortController();
    const third = take(3, controller.signal);
    const [fourth, fifth] = [take(4, signal), take(5, signal)];
    await sleep(10);
    expect(order).toEqual([1, 2]);
    // One that gives up does not hold up those behind it, nor take a place with it.
    controller.abort();
    (await third)();
    first();
    (await fourth)();
    await fifth;
    second();
    expect(order).toEqual([1, 2, 4, 5]);
  });
});

test('an error can be sent as plain data', async () => {
  const node = await scripted(() => problem(423, 'lock_held'));
  const call = new Evermind({ apiKey: 'evk_test', endpoint: node.url }).acquire({ key: 'k' });
  const error = (await call.catch((error: unknown) => error)) as LockNotAcquiredError;
  expect(structuredClone(error).message).toBe('lock_held');
  expect(structuredClone(error.toJSON())).toMatchObject({
    name: 'LockNotAcquiredError',
    message: 'lock_held',
    code: 'lock_held',
    status: 423,
  });
});
