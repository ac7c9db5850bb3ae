import { describe, expect, test } from 'vitest';

import { nightlyReport } from '../examples/cron/nightly-report.ts';
import { SCHEMA, StaleWorkerError, store, work } from '../examples/queue-worker/worker.ts';
import { checkoutRoute } from '../examples/route-handler/route.ts';
import { postgres } from './harness/postgres.ts';
import { client } from './harness/shared.ts';
import { until } from './harness/until.ts';

describe('a cron job that must not overlap', () => {
  test('runs once, however many start it, and again the next night', async () => {
    let running = 0;
    let runs = 0;
    let finish: () => void = () => undefined;
    const report = async () => {
      running += 1;
      runs += 1;
      expect(running).toBe(1);
      await new Promise<void>((resolve) => (finish = resolve));
      running -= 1;
    };
    // Each machine has a client of its own.
    const first = nightlyReport(client(), report);
    await until('the report runs', () => running === 1);
    expect(await Promise.all([1, 2, 3].map(() => nightlyReport(client(), report)))).toEqual([
      false,
      false,
      false,
    ]);
    finish();
    expect(await first).toBe(true);

    const again = nightlyReport(client(), report);
    await until('the report runs again', () => running === 1);
    finish();
    expect(await again).toBe(true);
    expect(runs).toBe(2);
  });
});

describe('a queue worker with fencing', () => {
  test('stores its result once, and a stale worker stores none', async ({ onTestFinished }) => {
    const { pool, stop } = await postgres();
    onTestFinished(stop);
    await pool.query(SCHEMA);
    await pool.query(`INSERT INTO jobs (id, payload) VALUES ('a', 'apples'), ('b', 'pears')`);
    const result = async (id: string) => {
      const { rows } = await pool.query<{ result: string; fence: string }>(
        'SELECT result, fence FROM jobs WHERE id = $1',
        [id],
      );
      return rows[0];
    };

    await work(client(), pool, 'a', (payload) => Promise.resolve(payload.toUpperCase()));
    expect(await result('a')).toMatchObject({ result: 'APPLES' });

    // A worker that lost its lock while it worked, as one does that was paused: another had the job
    // meanwhile. It has not been told yet when it writes, and the write is refused.
    let uuid = '';
    const watching = client({
      fetch: async (url, init) => {
        const body = JSON.parse(init.body ?? '{}') as { uuid?: string };
        uuid ||= body.uuid ?? '';
        return fetch(url, init);
      },
    });
    const stale = work(watching, pool, 'b', async () => {
      await client().release({ key: 'jobs/b', uuid });
      await work(client(), pool, 'b', (payload) => Promise.resolve(`${payload} by the second`));
      return 'pears by the first';
    });
    await expect(stale).rejects.toThrow(StaleWorkerError);
    const stored = await result('b');
    expect(stored).toMatchObject({ result: 'pears by the second' });

    // Any token that is not higher is refused, whoever brings it.
    await expect(store(pool, 'b', 'late', Number(stored?.fence))).rejects.toThrow(StaleWorkerError);
    await store(pool, 'b', 'in time', Number(stored?.fence) + 1);
    expect(await result('b')).toMatchObject({ result: 'in time' });
  });
});

describe('a route handler', () => {
  const context = (cart: string) => ({ params: Promise.resolve({ cart }) });
  const request = (signal?: AbortSignal) =>
    new Request('http://shop.example/', { method: 'POST', signal: signal ?? null });

  test('serves one checkout of a cart at a time, and tells the second to come again', async () => {
    let finish: () => void = () => undefined;
    const tokens: number[] = [];
    const route = checkoutRoute(client(), async (cart, fencingToken) => {
      tokens.push(fencingToken);
      await new Promise<void>((resolve) => (finish = resolve));
      return `order of ${cart}`;
    });
    const first = route(request(), context('1'));
    await until('the first is at it', () => tokens.length === 1);
    const second = await route(request(), context('1'));
    expect(second.status).toBe(409);
    expect(Number(second.headers.get('Retry-After'))).toBeGreaterThan(0);
    finish();
    const answer = await first;
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ order: 'order of 1' });
    expect(tokens).toHaveLength(1);
  });

  test('a browser that goes away leaves the line', async () => {
    const evermind = client();
    await evermind.acquire({ key: 'checkout/2', lease: 60_000 });
    const browser = new AbortController();
    let ran = false;
    const route = checkoutRoute(client(), () => {
      ran = true;
      return Promise.resolve('');
    });
    const call = route(request(browser.signal), context('2'));
    await until(
      'it stands in line',
      async () => (await evermind.getLock({ key: 'checkout/2' }))?.waiting === 1,
    );
    browser.abort();
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    await until(
      'the line is empty',
      async () => (await evermind.getLock({ key: 'checkout/2' }))?.waiting === 0,
    );
    expect(ran).toBe(false);
  });
});
