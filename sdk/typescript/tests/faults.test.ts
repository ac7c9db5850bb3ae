import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, describe, expect, test, vi } from 'vitest';

import {
  createApiKey,
  Evermind,
  LockLostError,
  OutcomeUnknownError,
  RateLimitedError,
  UnavailableError,
} from '@evermind-sh/sdk';

import { granted, problem, scripted, type Seen, softened } from './harness/node.ts';
import { freePort } from './harness/ports.ts';
import { until } from './harness/until.ts';

const apiKey = 'evk_test';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a call', () => {
  test('whose answer was lost is repeated to the letter', async () => {
    const node = await scripted((seen, nth) => (nth < 3 ? 'cut' : granted(seen)));
    const grant = await new Evermind({ apiKey, endpoint: node.url }).acquire({ key: 'k', lease: 5_000 });
    expect(grant.fencingToken).toBe(7);
    expect(node.seen).toHaveLength(3);
    for (const seen of node.seen) {
      expect(seen).toMatchObject({ method: 'POST', path: '/lock/acquire', body: node.seen[0]?.body });
      expect(seen.headers['idempotency-key']).toBe(node.seen[0]?.headers['idempotency-key']);
      expect(seen.headers.authorization).toBe('Bearer evk_test');
    }
    expect(node.seen[0]?.headers['idempotency-key']).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.parse(node.seen[0]?.body ?? '')).toEqual({ key: 'k', lease: 5_000, uuid: grant.config.uuid });
  });

  test('comes again after 503 and 504, softened or not', async () => {
    const soft = softened(problem(503, 'no_leader'));
    const script = [problem(503, 'no_leader'), problem(504, 'outcome_unknown'), soft];
    const node = await scripted((seen, nth) => script[nth - 1] ?? granted(seen));
    const evermind = new Evermind({ apiKey, endpoint: node.url });
    expect(await evermind.acquire({ key: 'k', softFail: true })).toMatchObject({ acquired: true });
    expect(node.seen).toHaveLength(4);
  });

  test('comes again after 429, when it is told to', async () => {
    const script = [problem(429, 'rate_limited', { 'Retry-After': '1' })];
    const node = await scripted((seen, nth) => script[nth - 1] ?? granted(seen));
    const start = performance.now();
    await new Evermind({ apiKey, endpoint: node.url }).acquire({ key: 'k' });
    expect(performance.now() - start).toBeGreaterThan(990);
    expect(node.seen).toHaveLength(2);
  });

  test('that is told to stay away for longer than it goes on ends there', async () => {
    const node = await scripted(() => problem(429, 'limit_reached', { 'Retry-After': '60' }));
    const call = new Evermind({ apiKey, endpoint: node.url }).extend({ key: 'k', uuid: 'u', extendBy: 1 });
    const error: unknown = await call.catch((error: unknown) => error);
    expect(error).toBeInstanceOf(RateLimitedError);
    expect(error).toMatchObject({ retryAfter: 60_000, requestId: 'r' });
    expect(node.seen).toHaveLength(1);
  });

  test('comes again after nothing else', async () => {
    for (const [status, code] of [
      [400, 'invalid_request'],
      [401, 'unauthorized'],
      [402, 'quota_exceeded'],
      [403, 'licence_inactive'],
      [404, 'lock_not_found'],
      [409, 'grant_ended'],
      [422, 'idempotency_mismatch'],
      [423, 'lock_held'],
      [500, 'something_new'],
    ] as const) {
      const node = await scripted(() => problem(status, code));
      const call = new Evermind({ apiKey, endpoint: node.url }).acquire({ key: 'k' });
      await expect(call).rejects.toMatchObject({ status, code });
      expect(node.seen.filter(({ path }) => path === '/lock/acquire')).toHaveLength(1);
    }
  });

  test('goes round the nodes', async () => {
    const dead = `http://127.0.0.1:${await freePort()}`;
    const leaderless = await scripted(() => problem(503, 'no_leader'));
    const node = await scripted((seen) => granted(seen));
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const evermind = new Evermind({ apiKey, endpoint: [dead, leaderless.url, node.url] });
    await evermind.acquire({ key: 'k' });
    // It stays where it was answered.
    await evermind.acquire({ key: 'k' });
    expect(leaderless.seen).toHaveLength(1);
    expect(node.seen).toHaveLength(2);
  });

  test('tells of an answer that is not of this API', async () => {
    const html = await scripted((_, nth) => ({ status: nth === 1 ? 200 : 404, body: '<html>' }));
    const evermind = new Evermind({ apiKey, endpoint: html.url });
    await expect(evermind.cluster()).rejects.toMatchObject({
      code: 'not_understood',
      status: 200,
      body: '<html>',
    });
    await expect(evermind.cluster()).rejects.toMatchObject({
      code: 'http_404',
      status: 404,
      name: 'EvermindError',
    });
    const other = await scripted(() => ({ status: 200, body: { hello: 'world' } }));
    let ran = false;
    const call = new Evermind({ apiKey, endpoint: other.url }).withLock({ key: 'k' }, () => (ran = true));
    await expect(call).rejects.toMatchObject({ code: 'not_understood' });
    expect(ran).toBe(false);
  });
});

describe('a grant that nobody hears of', () => {
  const released = { status: 200, body: { released: true, message: null } };

  test('is given back, whatever became of the answer', async () => {
    for (const [code, answer] of [
      ['internal', () => problem(500, 'internal')],
      ['not_understood', () => ({ status: 200, body: '{"acquired":true,"fenc' })],
      ['not_understood', (seen: Seen) => granted(seen, { expiresIn: null })],
      ['not_understood', (seen: Seen) => granted(seen, { waited: '0' })],
      ['not_understood', (seen: Seen) => granted(seen, { fencingToken: undefined })],
      ['not_understood', (seen: Seen) => granted(seen, { config: null })],
      ['limit_reached', () => problem(429, 'limit_reached', { 'Retry-After': '60' })],
    ] as const) {
      const node = await scripted((seen) => (seen.path === '/lock/release' ? released : answer(seen)));
      const evermind = new Evermind({ apiKey, endpoint: node.url });
      await expect(evermind.acquire({ key: 'k' })).rejects.toMatchObject({ code });
      await until('the release has come', () => node.seen.some(({ path }) => path === '/lock/release'));
      const [acquire, release] = node.seen.map(({ body }) => JSON.parse(body) as { uuid: string });
      expect(release).toEqual({ key: 'k', uuid: acquire?.uuid });
      // The caller's own is the caller's to give back.
      await expect(evermind.acquire({ key: 'k', uuid: 'own' })).rejects.toMatchObject({ code });
      expect(node.seen).toHaveLength(3);
    }
  });

  test('was refused, and is left alone', async () => {
    const node = await scripted(() => problem(423, 'lock_held'));
    const evermind = new Evermind({ apiKey, endpoint: node.url });
    await expect(evermind.acquire({ key: 'k' })).rejects.toMatchObject({ code: 'lock_held' });
    await sleep(50);
    expect(node.seen).toHaveLength(1);
  });
});

describe('an extension', () => {
  test('without an end is not believed', async () => {
    const node = await scripted(() => ({ status: 200, body: { extended: true, fencingToken: 7 } }));
    const call = new Evermind({ apiKey, endpoint: node.url }).extend({ key: 'k', uuid: 'u', extendBy: 1 });
    await expect(call).rejects.toMatchObject({ code: 'not_understood' });
  });
});

describe('giving up', () => {
  // Trouble is thirty seconds long: these wait side by side.
  test('comes after thirty seconds of trouble', { timeout: 60_000 }, async () => {
    const dead = `http://127.0.0.1:${await freePort()}`;
    const unknown = await scripted(({ path }) =>
      path === '/lock/release' ? problem(404, 'lock_not_found') : problem(504, 'outcome_unknown'),
    );
    const soft = await scripted(() => softened(problem(503, 'no_leader')));
    const start = performance.now();
    const [first, second, third] = await Promise.allSettled([
      new Evermind({ apiKey, endpoint: dead }).release({ key: 'k', uuid: 'u' }),
      new Evermind({ apiKey, endpoint: unknown.url }).acquire({ key: 'k' }),
      new Evermind({ apiKey, endpoint: soft.url }).acquire({ key: 'k', uuid: 'u', softFail: true }),
    ]);
    const took = performance.now() - start;
    expect(took).toBeGreaterThan(25_000);
    expect(took).toBeLessThan(31_000);
    expect(first).toMatchObject({
      reason: { code: 'unreachable', message: expect.stringMatching(/ECONNREFUSED/) as string },
    });
    expect((first as PromiseRejectedResult).reason).toBeInstanceOf(UnavailableError);
    expect((second as PromiseRejectedResult).reason).toBeInstanceOf(OutcomeUnknownError);
    expect(third).toMatchObject({ status: 'fulfilled', value: { acquired: false, code: 'no_leader' } });
    // What may be held is given back, if its uuid was made here.
    const releases = await until('the release has come', () => {
      const releases = unknown.seen.filter(({ path }) => path === '/lock/release');
      return releases.length > 0 && releases;
    });
    expect(releases).toHaveLength(1);
    const acquired = JSON.parse(unknown.seen[0]?.body ?? '') as { uuid: string };
    expect(JSON.parse(releases[0]?.body ?? '')).toEqual({ key: 'k', uuid: acquired.uuid });
    expect(soft.seen.filter(({ path }) => path === '/lock/release')).toHaveLength(0);
  });
});

describe('an API key', () => {
  test('is not made twice', async () => {
    // A 503 without a body of ours is a proxy's, which may have passed the request on.
    for (const answer of [
      'cut',
      problem(504, 'outcome_unknown'),
      { status: 503, body: 'busy' },
      { status: 502, body: 'bad gateway' },
    ] as const) {
      const node = await scripted(() => answer);
      await expect(createApiKey({ licenceKey: 'evl_x', endpoint: node.url })).rejects.toThrow(
        OutcomeUnknownError,
      );
      expect(node.seen).toHaveLength(1);
    }
  });

  test('is made at the next node where nothing was done', async () => {
    const dead = `http://127.0.0.1:${await freePort()}`;
    const node = await scripted((_, nth) =>
      nth === 1 ? problem(503, 'no_leader') : { status: 200, body: { apiKey: 'evk_new', id: '1' } },
    );
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const created = await createApiKey({ licenceKey: 'evl_x', endpoint: [dead, node.url] });
    expect(created).toEqual({ apiKey: 'evk_new', id: '1' });
    expect(node.seen).toHaveLength(2);
    expect(node.seen[0]).toMatchObject({ method: 'POST', path: '/api-key', body: '{"licenceKey":"evl_x"}' });
    expect(node.seen[0]?.headers.authorization).toBeUndefined();
    expect(node.seen[0]?.headers['idempotency-key']).toBeUndefined();
  });
});

describe('the deadline of a lock', () => {
  /** A node that grants, and says nothing to an extension. */
  async function granting(more: object = {}) {
    const node = await scripted((seen) => {
      if (seen.path === '/lock/acquire') return granted(seen, more);
      return seen.path === '/lock/extend' ? 'hang' : { status: 200, body: { released: true, message: null } };
    });
    return { node, evermind: new Evermind({ apiKey, endpoint: node.url }) };
  }

  function aborted(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => {
        resolve();
      });
    });
  }

  test('by the wall clock alone is a doubt, which the cluster does not end here', async () => {
    const { evermind } = await granting();
    const real = Date.now;
    const start = performance.now();
    const call = evermind.withLock({ key: 'k', lease: 60_000 }, async ({ signal, remaining }) => {
      expect(remaining()).toBeGreaterThan(58_000);
      // The machine slept for a minute.
      vi.spyOn(Date, 'now').mockImplementation(() => real() + 60_000);
      expect(remaining()).toBeLessThan(0);
      await aborted(signal);
    });
    await expect(call).rejects.toThrow(LockLostError);
    expect(performance.now() - start).toBeLessThan(1_800);
  });

  test('by the wall clock alone: a grant that the cluster says has ended is lost at once', async () => {
    const node = await scripted((seen) => {
      if (seen.path === '/lock/acquire') return granted(seen);
      return problem(404, 'lock_not_found');
    });
    const real = Date.now;
    let waited = 0;
    const call = new Evermind({ apiKey, endpoint: node.url }).withLock(
      { key: 'k', lease: 60_000 },
      async (lock) => {
        vi.spyOn(Date, 'now').mockImplementation(() => real() + 60_000);
        const start = performance.now();
        await aborted(lock.signal);
        waited = performance.now() - start;
      },
    );
    await expect(call).rejects.toMatchObject({ name: 'LockLostError', cause: { code: 'lock_not_found' } });
    expect(waited).toBeLessThan(800);
  });

  test('by the wall clock alone, which was set: the cluster confirms the lock', async () => {
    const node = await scripted((seen) => {
      if (seen.path === '/lock/acquire') return granted(seen);
      if (seen.path === '/lock/release') return { status: 200, body: { released: true, message: null } };
      return { status: 200, body: { extended: true, message: null, expiresIn: 10_000, fencingToken: 7 } };
    });
    const real = Date.now;
    const call = new Evermind({ apiKey, endpoint: node.url }).withLock(
      { key: 'k' },
      async ({ signal, remaining }) => {
        vi.spyOn(Date, 'now').mockImplementation(() => real() + 15_000);
        expect(remaining()).toBeLessThan(0);
        await until('the cluster has confirmed it', () => remaining() > 9_000, 1_000);
        await sleep(1_200);
        expect(signal.aborted).toBe(false);
        return 'kept';
      },
    );
    expect(await call).toBe('kept');
  });

  test('by the wall clock alone, at the end: a release that is confirmed says that it was held', async () => {
    for (const [answer, kept] of [
      [{ status: 200, body: { released: true, message: null } }, true],
      ['hang', false],
    ] as const) {
      const node = await scripted((seen) => (seen.path === '/lock/acquire' ? granted(seen) : answer));
      const real = Date.now;
      const call = new Evermind({ apiKey, endpoint: node.url }).withLock({ key: 'k' }, () => {
        vi.spyOn(Date, 'now').mockImplementation(() => real() + 15_000);
        return 'kept';
      });
      if (kept) expect(await call).toBe('kept');
      else await expect(call).rejects.toThrow(LockLostError);
      vi.restoreAllMocks();
    }
  });

  test('comes by the monotonic clock, when the wall clock was set back', async () => {
    const { evermind } = await granting();
    const real = Date.now;
    const start = performance.now();
    const call = evermind.withLock({ key: 'k', lease: 1_000 }, async ({ signal }) => {
      vi.spyOn(Date, 'now').mockImplementation(() => real() - 3_600_000);
      await aborted(signal);
    });
    await expect(call).rejects.toThrow(LockLostError);
    expect(performance.now() - start).toBeGreaterThan(900);
    expect(performance.now() - start).toBeLessThan(2_000);
  });

  test('that passed while nothing else could run is told all the same', async () => {
    const { evermind } = await granting();
    let ran = false;
    const call = evermind.withLock({ key: 'k', lease: 1_000 }, ({ signal }) => {
      ran = true;
      const end = performance.now() + 1_100;
      while (performance.now() < end);
      // No timer has run; the clocks are looked at before the result is believed.
      expect(signal.aborted).toBe(false);
      return 'returned';
    });
    await expect(call).rejects.toThrow(LockLostError);
    expect(ran).toBe(true);
  });

  test('that passed on the way here keeps the routine from running', async () => {
    const { node, evermind } = await granting({ expiresIn: 0 });
    let ran = false;
    await expect(evermind.withLock({ key: 'k' }, () => (ran = true))).rejects.toThrow(LockLostError);
    expect(ran).toBe(false);
    expect(node.seen.map(({ path }) => path)).toEqual(['/lock/acquire', '/lock/release']);
  });

  test('is not waited for where the caller gave up while it was moved', async () => {
    const controller = new AbortController();
    const node = await scripted((seen) => {
      if (seen.path === '/lock/acquire') return granted(seen, { waited: 0, expiresIn: 2_000 });
      if (seen.path === '/lock/release') return { status: 200, body: { released: true, message: null } };
      controller.abort('enough');
      return { status: 200, body: { extended: true, message: null, expiresIn: 5_000, fencingToken: 7 } };
    });
    const evermind = new Evermind({ apiKey, endpoint: node.url });
    const call = evermind.lock({ key: 'k', lease: 5_000, signal: controller.signal });
    await expect(call).rejects.toBe('enough');
    expect(node.seen.map(({ path }) => path)).toEqual(['/lock/acquire', '/lock/extend', '/lock/release']);
  });

  test('is moved before the routine runs, where most of the lease has gone by', async () => {
    const node = await scripted((seen) => {
      if (seen.path === '/lock/acquire') return granted(seen, { waited: 0, expiresIn: 2_000 });
      if (seen.path === '/lock/release') return { status: 200, body: { released: true, message: null } };
      return { status: 200, body: { extended: true, message: null, expiresIn: 5_000, fencingToken: 7 } };
    });
    const evermind = new Evermind({ apiKey, endpoint: node.url });
    await evermind.withLock({ key: 'k', lease: 5_000 }, ({ remaining }) => {
      expect(node.seen.map(({ path }) => path)).toEqual(['/lock/acquire', '/lock/extend']);
      expect(remaining()).toBeGreaterThan(4_000);
    });
    // What was used of the lease when the answer came: 3 s, and a little for the way.
    const { extendBy } = JSON.parse(node.seen[1]?.body ?? '') as { extendBy: number };
    expect(extendBy).toBeGreaterThanOrEqual(3_000);
    expect(extendBy).toBeLessThan(3_500);
  });
});
