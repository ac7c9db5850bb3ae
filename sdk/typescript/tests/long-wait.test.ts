import { createServer, type AddressInfo, type Socket } from 'node:net';

import { describe, test } from 'vitest';

import { licence } from './harness/licence.ts';
import { client, shared } from './harness/shared.ts';
import { until } from './harness/until.ts';

/** What a client sent, and what it was answered. */
interface Sent {
  readonly body: string;
  readonly name: string | undefined;
  status?: number;
}

/** A client that notes the acquires it sends. */
function noting(sent: Sent[], apiKey: string, endpoint: readonly string[] = shared().endpoints) {
  return client({
    apiKey,
    endpoint,
    fetch: async (url, init) => {
      const note: Sent = { body: init.body ?? '', name: init.headers['Idempotency-Key'] };
      if (url.endsWith('/lock/acquire')) sent.push(note);
      const response = await fetch(url, init);
      note.status = response.status;
      return response;
    },
  });
}

// Nothing shows a long wait but a long wait: these run side by side.
describe.concurrent('a wait longer than a minute', () => {
  test(
    'keeps its place from slice to slice, and costs what polling would',
    { timeout: 120_000 },
    async ({ expect }) => {
      const { apiKey, used } = await licence('long/granted');
      const evermind = client({ apiKey });
      const key = 'long/granted';
      const holder = await evermind.acquire({ key, lease: 600_000 });
      const start = performance.now();
      const wait = { key, lease: 30_000, retryAttempts: 180, retryDelay: 500, fifo: true };
      const [firstSent, secondSent]: [Sent[], Sent[]] = [[], []];

      const first = noting(firstSent, apiKey).acquire(wait);
      await until('the first stands in line', async () => (await evermind.getLock({ key }))?.waiting === 1);
      const second = noting(secondSent, apiKey).acquire(wait);
      await until('the second too', async () => (await evermind.getLock({ key }))?.waiting === 2);

      // Never, between two slices either, is one of them without a caller: it would be passed over.
      let looks = 0;
      await until(
        'more than a minute has passed',
        async () => {
          expect((await evermind.getLock({ key }))?.waiting).toBe(2);
          looks += 1;
          return performance.now() - start > 62_000;
        },
        70_000,
      );
      expect(looks).toBeGreaterThan(100);

      const waited = performance.now() - start;
      await evermind.release({ key, uuid: holder.config.uuid });
      const granted = await first;
      const tolerance = 8;
      expect(granted.lockAcquisitionAttempts).toBeGreaterThan(1 + waited / 500 - tolerance);
      expect(granted.lockAcquisitionAttempts).toBeLessThan(1 + waited / 500 + tolerance);
      expect(granted.expiresIn).toBe(30_000);
      // From the request that was answered, not from the first: the deadline counts from that one.
      expect(granted.waited).toBeLessThan(25_000);
      expect(granted.remaining()).toBeGreaterThan(20_000);
      expect(granted.remaining()).toBeLessThan(30_000);

      await evermind.release({ key, uuid: granted.config.uuid });
      const next = await second;
      // Not by one: the cluster counts for all keys.
      expect(next.fencingToken).toBeGreaterThan(granted.fencingToken);
      await evermind.release({ key, uuid: next.config.uuid });

      // What was said is what was charged, once: a slice costs nothing.
      expect(await used()).toBe(1 + granted.lockAcquisitionAttempts + next.lockAcquisitionAttempts);
      for (const sent of [firstSent, secondSent]) {
        expect(sent).toHaveLength(7);
        expect(new Set(sent.map(({ body }) => body)).size).toBe(1);
        expect(new Set(sent.map(({ name }) => name)).size).toBe(1);
      }
      await until('nothing is left', async () => (await evermind.getLock({ key })) === null);
    },
  );

  test('ends with its window, once', { timeout: 120_000 }, async ({ expect }) => {
    const evermind = client();
    const key = 'long/refused';
    await evermind.acquire({ key, lease: 600_000 });
    const start = performance.now();
    const sent: Sent[] = [];
    const call = noting(sent, shared().apiKey).acquire({ key, retryAttempts: 62, retryDelay: 1_000 });
    await expect(call).rejects.toMatchObject({
      name: 'LockNotAcquiredError',
      body: { lockAcquisitionAttempts: 63, holder: { waiting: 0 } },
    });
    const took = performance.now() - start;
    expect(took).toBeGreaterThan(61_500);
    expect(took).toBeLessThan(65_000);
    expect(sent).toHaveLength(7);
  });

  test(
    'keeps its place when a node is switched off',
    { timeout: 120_000 },
    async ({ expect, onTestFinished }) => {
      const { apiKey, used } = await licence('long/silent');
      const evermind = client({ apiKey });
      const key = 'long/silent';
      // Like a machine without power, but that it takes connections: nothing comes back.
      const sockets = new Set<Socket>();
      const silent = createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => undefined);
      });
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      onTestFinished(() => {
        for (const socket of sockets) socket.destroy();
        silent.close();
      });
      const off = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
      const [first = '', second = ''] = shared().endpoints;

      const holder = await evermind.acquire({ key, lease: 600_000 });
      const start = performance.now();
      const sent: Sent[] = [];
      const call = noting(sent, apiKey, [first, off, second]).acquire({ key, retryAttempts: 180 });
      await until('it stands in line', async () => (await evermind.getLock({ key }))?.waiting === 1);
      await until(
        'the silent node has been asked twice',
        async () => {
          expect((await evermind.getLock({ key }))?.waiting).toBe(1);
          return performance.now() - start > 52_000;
        },
        60_000,
      );
      const waited = performance.now() - start;
      await evermind.release({ key, uuid: holder.config.uuid });
      const granted = await call;
      expect(sent.map(({ status }) => status)).toContain(undefined);
      expect(Math.abs(granted.lockAcquisitionAttempts - 1 - waited / 500)).toBeLessThan(8);
      expect(await used()).toBe(1 + granted.lockAcquisitionAttempts);
      await evermind.release({ key, uuid: granted.config.uuid });
    },
  );
});
