import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, describe, expect, test, vi } from 'vitest';

import { Evermind, LockLostError, UnavailableError } from '@evermind-sh/sdk';

import { type Answer, granted, problem, scripted, type Seen } from './harness/node.ts';

const apiKey = 'evk_test';
const released = { status: 200, body: { released: true, message: null } };
const extended = { status: 200, body: { extended: true, message: null, expiresIn: 10_000, fencingToken: 7 } };

afterEach(() => {
  vi.restoreAllMocks();
});

/** A client that begins at the first endpoint. */
function inOrder(...endpoint: string[]): Evermind {
  vi.spyOn(Math, 'random').mockReturnValue(0);
  return new Evermind({ apiKey, endpoint });
}

/** A node that does what it is asked. */
function willing(seen: Seen): Answer {
  if (seen.path === '/lock/acquire') return granted(seen);
  return seen.path === '/lock/extend' ? extended : released;
}

describe('a proxy whose node is down', () => {
  test.for([500, 502, 503, 504, 520, 529, 408])(
    'says %i: the next is asked the same',
    async (status, { expect }) => {
      const proxy = await scripted(() => ({ status, body: '<html>' }));
      const node = await scripted(willing);
      const evermind = inOrder(proxy.url, node.url);
      await evermind.acquire({ key: 'k' });
      const [first, second] = [proxy.seen[0], node.seen[0]];
      expect(second?.body).toBe(first?.body);
      expect(second?.headers['idempotency-key']).toBe(first?.headers['idempotency-key']);
      // It stays where it was answered.
      await evermind.acquire({ key: 'k' });
      expect(proxy.seen).toHaveLength(1);
    },
  );

  test('loses no lock that is held through it', async () => {
    let down = false;
    const proxy = await scripted((seen) => (down ? { status: 502, body: 'bad gateway' } : willing(seen)));
    const node = await scripted(willing);
    await inOrder(proxy.url, node.url).withLock({ key: 'k', lease: 1_500 }, async ({ signal }) => {
      down = true;
      await sleep(3_000);
      expect(signal.aborted).toBe(false);
    });
    expect(node.seen.map(({ path }) => path)).toContain('/lock/extend');
  });

  test('that answers with a page of its own to an extension is left as well', async () => {
    let down = false;
    const proxy = await scripted((seen) => (down ? { status: 200, body: '<html>sign in' } : willing(seen)));
    const node = await scripted(willing);
    await inOrder(proxy.url, node.url).withLock({ key: 'k', lease: 3_000 }, async ({ signal }) => {
      down = true;
      await sleep(4_000);
      expect(signal.aborted).toBe(false);
    });
  });

  test("our own failures are the node's word, and final", async () => {
    const node = await scripted(() => problem(500, 'internal'));
    const other = await scripted(willing);
    await expect(
      inOrder(node.url, other.url).extend({ key: 'k', uuid: 'u', extendBy: 1 }),
    ).rejects.toMatchObject({
      code: 'internal',
    });
    expect(other.seen).toHaveLength(0);
  });

  test('and no other: after thirty seconds it is unavailable', { timeout: 60_000 }, async () => {
    const proxy = await scripted(() => ({ status: 502, body: 'bad gateway' }));
    const call = new Evermind({ apiKey, endpoint: proxy.url }).release({ key: 'k', uuid: 'u' });
    const error: unknown = await call.catch((error: unknown) => error);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error).toMatchObject({ code: 'http_502', status: 502 });
  });
});

describe('a proxy that cuts what is idle', () => {
  test('does not end a wait, and is not waited for again', { timeout: 60_000 }, async () => {
    const start = performance.now();
    const at: number[] = [];
    const proxy = await scripted(async (seen) => {
      if (seen.path !== '/lock/acquire') return willing(seen);
      at.push(performance.now() - start);
      // Half the trouble that ends a call, twelve times over.
      await sleep(3_000);
      return performance.now() - start > 36_000 ? granted(seen) : { status: 504, body: 'gateway time-out' };
    });
    const evermind = new Evermind({ apiKey, endpoint: proxy.url });
    await evermind.acquire({ key: 'k', retryAttempts: 600, retryDelay: 1_000 });
    expect(new Set(proxy.seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    // From the second on, one stands in line before the one before it is cut.
    const gaps = at.slice(2).map((ms, index) => ms - (at[index + 1] ?? 0));
    expect(Math.max(...gaps)).toBeLessThan(2_900);
  });
});

describe('a first node that is silent', () => {
  test('costs no command more than a third of a lease', async () => {
    const frozen = await scripted(() => 'hang');
    const node = await scripted((seen) =>
      seen.method === 'GET'
        ? { status: 200, body: { key: 'k', fencingToken: 7, expiresIn: 1, waiting: 0, fifo: false } }
        : willing(seen),
    );
    for (const command of [
      (evermind: Evermind) => evermind.acquire({ key: 'k' }),
      (evermind: Evermind) => evermind.acquire({ key: 'k', retryAttempts: 0 }),
      (evermind: Evermind) => evermind.acquire({ key: 'k', retryAttempts: 100 }),
      (evermind: Evermind) => evermind.extend({ key: 'k', uuid: 'u', extendBy: 1 }),
      (evermind: Evermind) => evermind.release({ key: 'k', uuid: 'u' }),
      (evermind: Evermind) => evermind.getLock({ key: 'k' }),
      (evermind: Evermind) => evermind.withLock({ key: 'k' }, () => undefined),
    ]) {
      const evermind = inOrder(frozen.url, node.url);
      const before = node.seen.length;
      const start = performance.now();
      await command(evermind);
      expect(performance.now() - start).toBeLessThan(3_333);
      // The same request, to the letter.
      const [asked, hedged] = [frozen.seen.at(-1), node.seen[before]];
      expect(hedged?.body).toBe(asked?.body);
      expect(hedged?.headers['idempotency-key']).toBe(asked?.headers['idempotency-key']);
      // And the silent one is not asked again.
      const again = performance.now();
      await evermind.release({ key: 'k', uuid: 'u' });
      expect(performance.now() - again).toBeLessThan(900);
    }
  });

  test('a lock is given back at the third, where two are silent', async () => {
    let frozen = false;
    const [first, second] = await Promise.all(
      [0, 1].map(() => scripted((seen) => (frozen ? 'hang' : willing(seen)))),
    );
    const third = await scripted(willing);
    await inOrder(first?.url ?? '', second?.url ?? '', third.url).withLock(
      { key: 'k', lease: 60_000 },
      () => {
        frozen = true;
      },
    );
    expect(third.seen.map(({ path }) => path)).toEqual(['/lock/release']);
  });
});

describe('a redirect', () => {
  test('is named', async () => {
    const strict = await scripted(() => problem(405, 'method_not_allowed'));
    const server = createServer((request, response) => {
      response.writeHead(301, { Location: strict.url + (request.url ?? '') }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      await expect(new Evermind({ apiKey, endpoint }).acquire({ key: 'k' })).rejects.toMatchObject({
        code: 'redirected',
        message: expect.stringContaining(`${endpoint} redirects to ${strict.url}`) as string,
      });
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});

test('a lock that was lost says what kept it from being extended', async () => {
  let down = false;
  const node = await scripted(willing);
  const evermind = new Evermind({
    apiKey,
    endpoint: node.url,
    fetch: (url, init) => (down ? Promise.reject(new Error('the cable is out')) : fetch(url, init)),
  });
  const call = evermind.withLock({ key: 'k', lease: 1_000 }, async ({ signal }) => {
    down = true;
    while (!signal.aborted) await sleep(20);
  });
  const error: unknown = await call.catch((error: unknown) => error);
  expect(error).toBeInstanceOf(LockLostError);
  expect(error).toMatchObject({
    message: expect.stringMatching(/was lost: no node answered: .*the cable is out/) as string,
    cause: { code: 'unreachable' },
  });
});
