import { describe, test } from 'vitest';

import { Cluster } from './harness/cluster.ts';
import { until } from './harness/until.ts';

describe.concurrent('withLock', () => {
  test('goes on across a kill -9 of the leader', async ({ expect, onTestFinished }) => {
    const cluster = await Cluster.start();
    onTestFinished(() => cluster.stop());
    const evermind = cluster.client();
    const key = 'leader';
    const lease = 6_000;
    const leader = await cluster.leader();
    // Everyone starts at the node that is killed.
    const endpoint = [leader.http, ...cluster.endpoints.filter((url) => url !== leader.http)];

    const { fencingToken, second } = await cluster
      .client({ endpoint })
      .withLock({ key, lease }, async ({ fencingToken, signal }) => {
        const waiting = cluster
          .client({ endpoint })
          .withLock({ key, retryAttempts: 100, lease }, (lock) => lock.fencingToken);
        await until(
          'the second stands in line',
          async () => (await evermind.getLock({ key }))?.waiting === 1,
        );
        process.kill(leader.pid, 'SIGKILL');
        const killed = performance.now();
        const next = await cluster.leader();
        expect(next.id).not.toBe(leader.id);
        // Past what the lease could have lasted without extensions, whatever the failover added to it.
        await until('two leases have passed', () => performance.now() > killed + 2 * lease + 3_000);
        expect(signal.aborted).toBe(false);
        expect(await evermind.getLock({ key })).toMatchObject({ fencingToken, waiting: 1 });
        return { fencingToken, second: waiting };
      });
    // The second kept its place in line although its node is gone.
    expect(await second).toBeGreaterThan(fencingToken);
  });

  test('does not hang on dead nodes when it releases, nor hide anything', async ({
    expect,
    onTestFinished,
  }) => {
    const cluster = await Cluster.start();
    onTestFinished(() => cluster.stop());
    const evermind = cluster.client();
    const own = new Error('own');
    let ended = 0;
    const results = await Promise.allSettled([
      evermind.withLock({ key: 'dead/returns', lease: 60_000 }, async () => {
        await bothAreHeld();
        cluster.signal('SIGKILL');
        ended = performance.now();
        return 'returned';
      }),
      evermind.withLock({ key: 'dead/throws', lease: 60_000 }, async () => {
        await until('the nodes are dead', () => ended > 0);
        throw own;
      }),
    ]);
    expect(performance.now() - ended).toBeLessThan(4_000);
    expect(results).toEqual([
      { status: 'fulfilled', value: 'returned' },
      { status: 'rejected', reason: own },
    ]);

    async function bothAreHeld(): Promise<void> {
      await until(
        'both are held',
        async () => (await evermind.listLocks({ prefix: 'dead/' })).locks.length === 2,
      );
    }
  });

  test('does not hang on nodes that hang when it releases', async ({ expect, onTestFinished }) => {
    const cluster = await Cluster.start();
    onTestFinished(() => cluster.stop());
    const evermind = cluster.client();
    let ended = 0;
    const result = await evermind.withLock({ key: 'hung', lease: 60_000 }, () => {
      cluster.signal('SIGSTOP');
      ended = performance.now();
      return 'returned';
    });
    expect(performance.now() - ended).toBeLessThan(4_000);
    expect(result).toBe('returned');
  });

  test('tells of a lock that no node would extend, before its lease ends', async ({
    expect,
    onTestFinished,
  }) => {
    const cluster = await Cluster.start();
    onTestFinished(() => cluster.stop());
    const evermind = cluster.client();
    const lease = 2_000;
    let heldUntil = 0;
    const call = evermind.withLock({ key: 'unextended', lease }, async ({ signal, remaining }) => {
      heldUntil = performance.now() + remaining();
      cluster.signal('SIGSTOP');
      await until('the signal is aborted', () => signal.aborted);
      expect(performance.now()).toBeGreaterThan(heldUntil - 50);
      expect(performance.now()).toBeLessThan(heldUntil + 1_000);
    });
    await expect(call).rejects.toMatchObject({ name: 'LockLostError', code: 'lock_lost' });
    expect(heldUntil).toBeGreaterThan(0);
  });
});
