import { setTimeout as sleep } from 'node:timers/promises';

import { describe, expect, test } from 'vitest';

import {
  AuthError,
  InvalidRequestError,
  LockNotAcquiredError,
  LockNotFoundError,
  NotOwnerError,
} from '@evermind-sh/sdk';

import { client, shared } from './harness/shared.ts';

const evermind = client();

describe('acquire, extend, release', () => {
  test('take a lock, move its end, give it back', async () => {
    const key = 'api/round';
    const grant = await evermind.acquire({ key, lease: 5_000 });
    expect(grant).toMatchObject({
      acquired: true,
      message: null,
      lockAcquisitionAttempts: 1,
      config: { key, lease: 5_000, retryAttempts: 10, retryDelay: 500, retryJitter: 0, fifo: false },
      expiresIn: 5_000,
      waited: 0,
    });
    expect(grant.config.uuid).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    // The deadline: from before the request was sent, less 1%.
    expect(grant.remaining()).toBeLessThanOrEqual(4_950);
    expect(grant.remaining()).toBeGreaterThan(2_000);

    const { uuid } = grant.config;
    const extended = await evermind.extend({ key, uuid, extendBy: 10_000 });
    expect(extended).toMatchObject({ extended: true, fencingToken: grant.fencingToken });
    expect(extended.expiresIn).toBeGreaterThan(10_000);
    expect(extended.expiresIn).toBeLessThanOrEqual(15_000);
    expect(extended.remaining()).toBeLessThan(15_000);

    expect(await evermind.release({ key, uuid })).toEqual({ released: true, message: null });
    expect(await evermind.getLock({ key })).toBeNull();
  });

  test('the answer is plain JSON', async () => {
    const grant = await evermind.acquire({ key: 'api/json' });
    expect(Object.keys(JSON.parse(JSON.stringify(grant)) as object)).toEqual([
      'acquired',
      'lockAcquisitionAttempts',
      'config',
      'message',
      'fencingToken',
      'expiresIn',
      'waited',
    ]);
  });

  test('what the caller says wins over defaults, and undefined says nothing', async () => {
    const grant = await evermind.acquire({
      key: 'api/defaults',
      lease: undefined,
      retryAttempts: 0,
      retryDelay: 0,
      fifo: true,
      uuid: 'my-own',
    });
    expect(grant.config).toEqual({
      key: 'api/defaults',
      lease: 10_000,
      retryAttempts: 0,
      retryDelay: 0,
      retryJitter: 0,
      uuid: 'my-own',
      fifo: true,
    });
  });

  test('the same uuid again is the same grant', async () => {
    const key = 'api/again';
    const first = await evermind.acquire({ key, uuid: 'again' });
    const second = await evermind.acquire({ key, uuid: 'again' });
    expect(second.fencingToken).toBe(first.fencingToken);
    const other = await evermind.acquire({ key: 'api/again-other' });
    expect(other.fencingToken).toBeGreaterThan(first.fencingToken);
  });

  test('a prefix goes before every key', async () => {
    const billing = client({ prefix: 'api/billing:' });
    const grant = await billing.acquire({ key: 'k' });
    expect(grant.config.key).toBe('api/billing:k');
    expect(await evermind.getLock({ key: 'api/billing:k' })).toMatchObject({
      fencingToken: grant.fencingToken,
    });
    expect(await billing.getLock({ key: 'k' })).toMatchObject({
      key: 'api/billing:k',
      waiting: 0,
      fifo: false,
    });
    expect((await billing.listLocks()).locks.map(({ key }) => key)).toEqual(['api/billing:k']);
    await billing.release({ key: 'k', uuid: grant.config.uuid });
    expect(await billing.getLock({ key: 'k' })).toBeNull();
  });

  test('keys may hold anything that a key may', async () => {
    const key = 'api/ü %/?#&+"\\😀';
    await evermind.acquire({ key });
    expect(await evermind.getLock({ key, stale: false })).toMatchObject({ key });
    expect((await evermind.listLocks({ prefix: 'api/ü' })).locks).toHaveLength(1);
  });

  test('a long list comes in pages', async () => {
    const keys = ['api/page/a', 'api/page/b', 'api/page/c'];
    await Promise.all(keys.map((key) => evermind.acquire({ key })));
    const first = await evermind.listLocks({ prefix: 'api/page/', limit: 2 });
    expect(first.locks.map(({ key }) => key)).toEqual(keys.slice(0, 2));
    const second = await evermind.listLocks({ prefix: 'api/page/', limit: 2, cursor: first.cursor });
    expect(second.locks.map(({ key }) => key)).toEqual(keys.slice(2));
    expect(second.cursor).toBeNull();
  });

  test('the cluster says who is who', async () => {
    const status = await evermind.cluster();
    expect(status.members.map(({ http }) => http).sort()).toEqual([...shared().endpoints].sort());
  });
});

describe('contention', () => {
  test('a held lock is waited for, and handed over when it is released', async () => {
    const key = 'api/contended';
    const holder = await evermind.acquire({ key, lease: 60_000 });
    const waiter = evermind.acquire({ key, retryAttempts: 20 });
    await expect.poll(async () => (await evermind.getLock({ key }))?.waiting).toBe(1);
    await evermind.release({ key, uuid: holder.config.uuid });
    const grant = await waiter;
    expect(grant.fencingToken).toBeGreaterThan(holder.fencingToken);
    expect(grant.lockAcquisitionAttempts).toBeGreaterThanOrEqual(2);
    expect(grant.waited).toBeGreaterThan(0);
  });

  test('no wait is asked for, and none is had', async () => {
    const key = 'api/no-wait';
    const holder = await evermind.acquire({ key, lease: 60_000 });
    const error = await evermind.acquire({ key, retryAttempts: 0 }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(LockNotAcquiredError);
    expect(error).toMatchObject({
      name: 'LockNotAcquiredError',
      code: 'lock_held',
      status: 423,
      retryAfter: 60_000,
      requestId: expect.stringMatching(/./) as string,
      body: {
        acquired: false,
        lockAcquisitionAttempts: 1,
        holder: { fencingToken: holder.fencingToken, waiting: 0 },
      },
    });
  });

  test('many callers, one holder at a time', async () => {
    const key = 'api/many';
    let holders = 0;
    const tokens: number[] = [];
    await Promise.all(
      Array.from({ length: 20 }, () =>
        evermind.withLock({ key, retryAttempts: 100, fifo: true }, async ({ fencingToken }) => {
          holders += 1;
          expect(holders).toBe(1);
          tokens.push(fencingToken);
          await sleep(20);
          holders -= 1;
        }),
      ),
    );
    expect(tokens).toEqual([...tokens].sort((a, b) => a - b));
    expect(new Set(tokens).size).toBe(20);
  });
});

describe('failures', () => {
  test('have a class by their code', async () => {
    const key = 'api/refused';
    await expect(evermind.release({ key, uuid: 'nobody' })).rejects.toThrow(LockNotFoundError);
    await evermind.acquire({ key });
    await expect(evermind.extend({ key, uuid: 'nobody', extendBy: 1 })).rejects.toThrow(NotOwnerError);
    await expect(evermind.acquire({ key, lease: 0 })).rejects.toThrow(InvalidRequestError);
    await expect(evermind.acquire({ key, lease: 0 })).rejects.toThrow(/lease/);
    await expect(client({ apiKey: 'evk_wrong' }).acquire({ key })).rejects.toThrow(AuthError);
  });

  test('a key that is missing is not a key called undefined', async () => {
    const call = client({ prefix: 'p:' }).acquire({} as { key: string });
    await expect(call).rejects.toThrow(/key is required/);
  });

  test('softFail makes them answers, but for what the server never softens', async () => {
    const key = 'api/soft';
    const { config } = await evermind.acquire({ key, lease: 60_000 });
    const held = await evermind.acquire({ key, retryAttempts: 0, softFail: true });
    expect(held).toMatchObject({ acquired: false, code: 'lock_held', status: 423 });
    const extended = await evermind.extend({ key, uuid: 'nobody', extendBy: 1, softFail: true });
    expect(extended).toMatchObject({ extended: false, code: 'not_owner', status: 409 });
    const released = await evermind.release({ key: 'api/soft-free', uuid: 'nobody', softFail: true });
    expect(released).toMatchObject({ released: false, code: 'lock_not_found', status: 404 });
    await expect(client({ apiKey: 'evk_wrong' }).release({ key, uuid: 'u', softFail: true })).rejects.toThrow(
      AuthError,
    );
    const granted = await evermind.acquire({ key, uuid: config.uuid, softFail: true });
    expect(granted).toMatchObject({ acquired: true });
  });

  test('what no call could be made with is told at once', () => {
    for (const endpoint of ['127.0.0.1:7601', 'ftp://a', '', 'http://u@h', 'http://:p@h', 'http://h?q', []]) {
      expect(() => client({ endpoint })).toThrow(TypeError);
    }
    for (const endpoint of ['http://user:secret@h', 'user:secret@h:7601', ' http://user:se@cret/@ h']) {
      expect(() => client({ endpoint })).toThrow(/^(?!.*(user|se@?cret)).*…@/);
    }
    for (const apiKey of ['', 'a b', 'a\n', undefined as unknown as string]) {
      expect(() => client({ apiKey })).toThrow(TypeError);
    }
    expect(() => client({ endpoint: 'https://locks.example/evermind/' })).not.toThrow();
  });
});
