import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { describe, test } from 'vitest';

import { Evermind, EvermindError, LockLostError, LockNotAcquiredError } from '@evermind-sh/sdk';

import { client, shared } from './harness/shared.ts';
import { until } from './harness/until.ts';

const evermind = client();

/** Resolves when the signal is aborted, to its reason. */
function aborted(signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    signal.addEventListener('abort', () => {
      resolve(signal.reason);
    });
  });
}

describe.concurrent('withLock', () => {
  test('resolves to what the routine does, and the lock is free again', async ({ expect }) => {
    const key = 'with/result';
    const result = await evermind.withLock({ key }, async (lock) => {
      const view = await evermind.getLock({ key });
      expect(view).toMatchObject({ key: lock.key, fencingToken: lock.fencingToken });
      expect(lock.signal.aborted).toBe(false);
      expect(lock.remaining()).toBeGreaterThan(0);
      return 'result';
    });
    expect(result).toBe('result');
    expect(await evermind.getLock({ key })).toBeNull();
  });

  test("keeps the routine's own error, and gives the lock back", async ({ expect }) => {
    const key = 'with/error';
    const own = new Error('own');
    await expect(evermind.withLock({ key }, () => Promise.reject(own))).rejects.toBe(own);
    await expect(
      evermind.withLock({ key }, () => {
        throw own;
      }),
    ).rejects.toBe(own);
    expect(await evermind.getLock({ key })).toBeNull();
  });

  test('never runs the routine without the lock', async ({ expect }) => {
    const key = 'with/held';
    await evermind.acquire({ key, lease: 60_000 });
    let ran = false;
    const call = evermind.withLock({ key, retryAttempts: 1, retryDelay: 50 }, () => (ran = true));
    await expect(call).rejects.toThrow(LockNotAcquiredError);
    // softFail is not for here: there is no body to resolve to.
    const soft = evermind.withLock(
      { key, retryAttempts: 0, softFail: true } as { key: string },
      () => (ran = true),
    );
    await expect(soft).rejects.toThrow(LockNotAcquiredError);
    expect(ran).toBe(false);
  });

  test('extends the lease while the routine runs, to one lease at most', async ({ expect }) => {
    const key = 'with/extend';
    const lease = 3_000;
    let extensions = 0;
    const counting = client({
      fetch: async (url, init) => {
        if (url.endsWith('/lock/extend')) extensions += 1;
        return fetch(url, init);
      },
    });
    await counting.withLock({ key, lease }, async ({ fencingToken, signal }) => {
      const end = performance.now() + 4 * lease;
      while (performance.now() < end) {
        const view = await evermind.getLock({ key });
        expect(view).toMatchObject({ fencingToken });
        // A millisecond may pass between two entries without the cluster's clock moving on.
        expect(view?.expiresIn).toBeLessThanOrEqual(lease);
        expect(signal.aborted).toBe(false);
        await sleep(50);
      }
    });
    expect(extensions).toBeGreaterThanOrEqual(6);
    expect(extensions).toBeLessThanOrEqual(24);
    expect(await evermind.getLock({ key })).toBeNull();
  });

  test('a lock that is gone aborts the signal, and is told although the routine returned', async ({
    expect,
  }) => {
    const key = 'with/gone';
    let reason: unknown;
    const call = evermind.withLock({ key, lease: 6_000 }, async ({ uuid, signal }) => {
      // Somebody with the uuid gives it back.
      await evermind.release({ key, uuid });
      reason = await aborted(signal);
      return 'returned';
    });
    const error: unknown = await call.catch((error: unknown) => error);
    expect(error).toBeInstanceOf(LockLostError);
    expect(reason).toBe(error);
    expect(error).toMatchObject({ code: 'lock_lost', cause: { code: 'lock_not_found' } });
  });

  test('a lock that is gone at the end, before any timer told, is told too', async ({ expect }) => {
    const key = 'with/gone-at-end';
    const call = evermind.withLock({ key, lease: 60_000 }, ({ uuid }) => evermind.release({ key, uuid }));
    await expect(call).rejects.toThrow(LockLostError);
  });

  test('another grant under the same uuid is not ours', async ({ expect }) => {
    const key = 'with/other-grant';
    let other: number | undefined;
    const call = evermind.withLock({ key, lease: 6_000, uuid: 'shared', adopt: true }, async (lock) => {
      const { uuid, signal } = lock;
      await evermind.release({ key, uuid });
      other = (await evermind.acquire({ key, uuid, lease: 60_000 })).fencingToken;
      await aborted(signal);
      // The other grant's deadline is not this one's.
      expect(lock.remaining()).toBeLessThanOrEqual(0);
    });
    await expect(call).rejects.toThrow(LockLostError);
    // Nor is it this one's to end.
    expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: other });
  });

  test('a lease that ran out leaves the grant that came after it alone', async ({ expect }) => {
    const key = 'with/stale';
    const uuid = 'own';
    // No extension arrives, as though the process stood still.
    const frozen = client({
      fetch: (url, init) =>
        url.endsWith('/lock/extend') ? Promise.reject(new Error('frozen')) : fetch(url, init),
    });
    const lock = await frozen.lock({ key, uuid, adopt: true, lease: 1_000 });
    await aborted(lock.signal);
    await until('its lease runs out', async () => (await evermind.getLock({ key })) === null);
    const next = await evermind.acquire({ key, uuid, lease: 60_000 });
    await expect(lock.release()).rejects.toThrow(LockLostError);
    expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: next.fencingToken });
  });

  test("the routine's own error is not replaced when the lock is lost", async ({ expect }) => {
    const key = 'with/gone-and-error';
    const own = new Error('own');
    const call = evermind.withLock({ key, lease: 60_000 }, async ({ uuid }) => {
      await evermind.release({ key, uuid });
      throw own;
    });
    await expect(call).rejects.toBe(own);
  });

  test("the caller's signal reaches the routine, which decides", async ({ expect }) => {
    const key = 'with/callers-signal';
    const controller = new AbortController();
    const result = await evermind.withLock(
      { key, signal: controller.signal },
      async ({ signal, fencingToken }) => {
        controller.abort('stop');
        expect(signal.aborted).toBe(true);
        // The lock is held all the same until it is given back.
        expect(await evermind.getLock({ key })).toMatchObject({ fencingToken });
        return signal.reason as unknown;
      },
    );
    expect(result).toBe('stop');
    expect(await evermind.getLock({ key })).toBeNull();
  });
});

describe.concurrent('lock', () => {
  test('is held until it is released, and releases once', async ({ expect }) => {
    const key = 'lock/explicit';
    const lock = await evermind.lock({ key, lease: 3_000 });
    await sleep(6_500);
    expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: lock.fencingToken });
    expect(await Promise.all([lock.release(), lock.release()])).toEqual([true, true]);
    expect(await evermind.getLock({ key })).toBeNull();
    // Somebody else's grant under the same name is left alone.
    const other = await evermind.lock({ key });
    await lock.release();
    expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: other.fencingToken });
    await other.release();
  });

  test('keeps no process alive that has come to its end', async ({ expect }) => {
    const { apiKey, endpoints } = shared();
    const key = 'lock/forgotten';
    const script = fileURLToPath(new URL('fixtures/forgetful.mjs', import.meta.url));
    // It ends by itself, while its lease would be extended for ever.
    const { stdout } = await promisify(execFile)(process.execPath, [
      script,
      endpoints.join(','),
      apiKey,
      key,
    ]);
    expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: Number(stdout) });
    await until('its lease runs out', async () => (await evermind.getLock({ key })) === null, 10_000);
  });

  test('is given back at the end of `await using`', async ({ expect }) => {
    const key = 'lock/using';
    {
      await using lock = await evermind.lock({ key });
      expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: lock.fencingToken });
    }
    expect(await evermind.getLock({ key })).toBeNull();
  });
});

describe.concurrent('an abort', () => {
  test('before anything was sent sends nothing', async ({ expect }) => {
    let sent = 0;
    const counting = client({
      fetch: (url, init) => {
        sent += 1;
        return fetch(url, init);
      },
    });
    const signal = AbortSignal.abort('never');
    await expect(counting.acquire({ key: 'abort/before', signal })).rejects.toBe('never');
    await expect(counting.withLock({ key: 'abort/before', signal }, () => 0)).rejects.toBe('never');
    await expect(counting.release({ key: 'abort/before', uuid: 'u', signal })).rejects.toBe('never');
    expect(sent).toBe(0);
  });

  test('of a pending acquire leaves the line empty', async ({ expect }) => {
    const key = 'abort/pending';
    const holder = await evermind.acquire({ key, lease: 60_000 });
    const releases: number[] = [];
    const noting = client({
      fetch: async (url, init) => {
        const response = await fetch(url, init);
        if (url.endsWith('/lock/release')) releases.push(response.status);
        return response;
      },
    });
    for (const [ours, take] of [
      [true, (signal: AbortSignal) => noting.acquire({ key, retryAttempts: 100, signal })],
      [false, (signal: AbortSignal) => noting.acquire({ key, retryAttempts: 100, uuid: 'own', signal })],
      [true, (signal: AbortSignal) => noting.withLock({ key, retryAttempts: 100, signal }, () => undefined)],
    ] as const) {
      releases.length = 0;
      const controller = new AbortController();
      const call = take(controller.signal);
      await until('it stands in line', async () => (await evermind.getLock({ key }))?.waiting === 1);
      controller.abort(new Error('enough'));
      await expect(call).rejects.toThrow('enough');
      await until('the line is empty', async () => (await evermind.getLock({ key }))?.waiting === 0);
      // A place that nobody waits at is not counted there, but is one until it is given back.
      if (ours) await until('its place is given back', () => releases.length > 0);
      expect(releases).toEqual(ours ? [200] : []);
    }
    await evermind.release({ key, uuid: holder.config.uuid });
    expect(await evermind.getLock({ key })).toBeNull();
  });

  test('that comes with the grant gives the grant back', async ({ expect }) => {
    for (const [key, take] of [
      [
        'abort/granted',
        (client: Evermind, options: { key: string; signal: AbortSignal }) => client.acquire(options),
      ],
      [
        'abort/granted-lock',
        (client: Evermind, options: { key: string; signal: AbortSignal }) =>
          client.withLock(options, () => {
            throw new Error('the routine ran');
          }),
      ],
    ] as const) {
      const controller = new AbortController();
      let token: number | undefined;
      const racing = client({
        fetch: async (url, init) => {
          const response = await fetch(url, init);
          if (!url.endsWith('/lock/acquire')) return response;
          const text = await response.text();
          token = (JSON.parse(text) as { fencingToken: number }).fencingToken;
          controller.abort('now');
          return new Response(text, response);
        },
      });
      await expect(take(racing, { key, signal: controller.signal })).rejects.toBe('now');
      expect(token).toBeGreaterThan(0);
      await until('the lock is free', async () => (await evermind.getLock({ key })) === null, 5_000);
    }
  });

  test('of any call rejects with the reason, not with an error of this client', async ({ expect }) => {
    const hanging = client({
      fetch: (_, { signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            reject(new Error('stopped'));
          });
        }),
    });
    for (const call of [
      hanging.extend({ key: 'k', uuid: 'u', extendBy: 1, signal: AbortSignal.timeout(20) }),
      hanging.getLock({ key: 'k', signal: AbortSignal.timeout(20) }),
      hanging.listLocks({ signal: AbortSignal.timeout(20) }),
      hanging.cluster({ signal: AbortSignal.timeout(20) }),
    ]) {
      const error: unknown = await call.catch((error: unknown) => error);
      expect(error).toMatchObject({ name: 'TimeoutError' });
      expect(EvermindError.is(error)).toBe(false);
    }
  });
});
