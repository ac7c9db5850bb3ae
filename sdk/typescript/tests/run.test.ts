import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { describe, test } from 'vitest';

import { Cluster } from './harness/cluster.ts';
import { evermind, onTerminal, type Running, type Said, start } from './harness/command.ts';
import { licence } from './harness/licence.ts';
import { client } from './harness/shared.ts';
import { until } from './harness/until.ts';

/** A directory for a script to write its news to. */
async function directory(onTestFinished: (clean: () => Promise<void>) => void): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'evermind-run-'));
  onTestFinished(() => rm(path, { recursive: true }));
  return path;
}

async function written(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.endsWith('\n') ? text.trim() : undefined;
}

/** What the command wrote when it began; fails if it never will. */
async function begun(running: Running, path: string): Promise<string> {
  let said: Said | undefined;
  void running.ended.then((end) => (said = end));
  return until('the command runs', () => {
    if (said) throw new Error(`it ended before: ${JSON.stringify(said)}`);
    return written(path);
  });
}

/** Whether a process lives; one that only waits to be buried does not. */
async function lives(pid: string): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !stat.includes(') Z ');
}

describe.concurrent('lock run', () => {
  test('runs the command under the lock, with its name and token, and gives its code', async ({ expect }) => {
    const key = 'run/code';
    const script = 'echo "$EVERMIND_LOCK_KEY $EVERMIND_FENCING_TOKEN"; echo news >&2; exit 7';
    const said = await evermind(['lock', 'run', key, '--', 'sh', '-c', script]);
    expect(said).toMatchObject({ code: 7, stderr: 'news\n' });
    expect(said.stdout).toMatch(/^run\/code \d+\n$/);
    expect(await client().getLock({ key })).toBeNull();
  });

  test('gives 128 and the signal that ended the command', async ({ expect }) => {
    const said = await evermind(['lock', 'run', 'run/signal', '--', 'sh', '-c', 'kill -TERM $$']);
    expect(said).toMatchObject({ code: 143, stderr: '' });
  });

  test('extends the lease as long as the command runs', async ({ expect, onTestFinished }) => {
    const key = 'run/extend';
    const path = await directory(onTestFinished);
    const running = start([
      'lock',
      'run',
      key,
      '--lease',
      '4s',
      '--',
      'sh',
      '-c',
      `echo x > ${path}/up; sleep 9`,
    ]);
    await begun(running, `${path}/up`);
    const token = (await client().getLock({ key }))?.fencingToken;
    expect(token).toBeGreaterThan(0);
    const state = { ended: false };
    void running.ended.then(() => (state.ended = true));
    while (!state.ended) {
      const view = await client().getLock({ key });
      if (view !== null) expect(view.fencingToken).toBe(token);
    }
    expect((await running.ended).code).toBe(0);
  });

  test('does not run it without the lock', async ({ expect, onTestFinished }) => {
    const key = 'run/held';
    const path = await directory(onTestFinished);
    await client().acquire({ key, lease: 60_000 });
    const said = await evermind(['lock', 'run', key, '--wait', '100ms', '--', 'touch', `${path}/ran`]);
    expect(said.code).toBe(75);
    expect(said.stderr).toMatch(/hint: wait longer with --wait/);
    expect(spawnSync('ls', [path]).stdout.toString()).toBe('');
  });

  test('a command that cannot be started, or is not there', async ({ expect, onTestFinished }) => {
    const key = 'run/missing';
    expect(await evermind(['lock', 'run', key, '--', 'no-such-program'])).toMatchObject({
      code: 127,
      stderr: expect.stringMatching(
        /^error: cannot run no-such-program: .*\nhint: is it installed/,
      ) as string,
    });
    const path = await directory(onTestFinished);
    await writeFile(`${path}/data`, 'not a program');
    expect(await evermind(['lock', 'run', key, '--', `${path}/data`])).toMatchObject({ code: 126 });
    expect(await client().getLock({ key })).toBeNull();
    expect(await evermind(['lock', 'run', key])).toMatchObject({ code: 2 });
    expect(await evermind(['lock', 'run', key, '--lease', '999ms', '--', 'true'])).toMatchObject({ code: 2 });
  });

  test.for(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'passes %s on',
    async (signal, { expect, onTestFinished }) => {
      const path = await directory(onTestFinished);
      const name = signal.slice(3);
      const script = `trap 'echo got; exit 9' ${name}; echo up > ${path}/up; while :; do sleep 0.05; done`;
      const running = start(['lock', 'run', `run/${signal}`, '--', 'sh', '-c', script]);
      await begun(running, `${path}/up`);
      running.child.kill(signal);
      expect(await running.ended).toMatchObject({ code: 9, stdout: 'got\n' });
    },
  );

  test('a signal while it stands in line ends it, and leaves the line empty', async ({ expect }) => {
    const key = 'run/line';
    const { apiKey, used } = await licence(key);
    const own = client({ apiKey });
    await own.acquire({ key, lease: 60_000 });
    const running = start(['lock', 'run', key, '--wait', '1m', '--', 'true'], { EVERMIND_API_KEY: apiKey });
    await until('it stands in line', async () => (await own.getLock({ key }))?.waiting === 1);
    // For two more attempts.
    await sleep(1_200);
    running.child.kill('SIGTERM');
    expect(await running.ended).toMatchObject({ code: 143 });
    expect((await own.getLock({ key }))?.waiting).toBe(0);
    // A place that nobody waits at is not counted there. That it was given back shows in the charge:
    // only then is the wait reckoned up.
    expect(await used()).toBeGreaterThanOrEqual(4);
  });

  test('takes what the command left running with it, before the lock is free', async ({
    expect,
    onTestFinished,
  }) => {
    const key = 'run/leftover';
    const path = await directory(onTestFinished);
    const leftover = `trap '' TERM; echo $$ > ${path}/pid; while :; do sleep 0.1; done`;
    const script = `sh -c "${leftover.replace('$$', '\\$\\$')}" & while [ ! -s ${path}/pid ]; do sleep 0.05; done; exit 3`;
    const running = start(['lock', 'run', key, '--', 'sh', '-c', script]);
    const pid = await begun(running, `${path}/pid`);
    expect(await lives(pid)).toBe(true);
    expect(await running.ended).toMatchObject({ code: 3 });
    expect(await lives(pid)).toBe(false);
    expect(await client().getLock({ key })).toBeNull();
  });

  test('a lock that is gone ends the command', async ({ expect, onTestFinished }) => {
    const key = 'run/gone';
    const path = await directory(onTestFinished);
    const script = `trap 'echo asked' TERM; echo up > ${path}/up; while :; do sleep 0.05; done`;
    const running = start([
      'lock',
      'run',
      key,
      '--lease',
      '6s',
      '--uuid',
      'me',
      '--adopt',
      '--',
      'sh',
      '-c',
      script,
    ]);
    await begun(running, `${path}/up`);
    await client().release({ key, uuid: 'me' });
    const said = await running.ended;
    // It was asked, did not listen, and was killed.
    expect(said).toMatchObject({ code: 76, stdout: 'asked\n' });
    expect(said.stderr).toMatch(
      /warning: the lock cannot be kept, and the command is ended: nobody holds this lock/,
    );
    expect(said.stderr).toMatch(
      /error: the lock was lost: nobody holds.*\nhint: what the command did last may be/,
    );
  });

  test('a lock that is gone by the end of the command is told, whatever the command says', async ({
    expect,
    onTestFinished,
  }) => {
    const key = 'run/gone-at-end';
    const path = await directory(onTestFinished);
    const script = `echo up > ${path}/up; while [ ! -e ${path}/go ]; do sleep 0.05; done`;
    const running = start([
      'lock',
      'run',
      key,
      '--lease',
      '1h',
      '--uuid',
      'me',
      '--adopt',
      '--',
      'sh',
      '-c',
      script,
    ]);
    await begun(running, `${path}/up`);
    // Long before an extension would tell.
    await client().release({ key, uuid: 'me' });
    await writeFile(`${path}/go`, '');
    const said = await running.ended;
    expect(said.code).toBe(76);
    expect(said.stderr).toMatch(/^error: the lock was lost: nobody holds.*\nhint: what the command did/);
  });

  test('Ctrl-Z stops the command and itself, and goes on under the same lock', async ({
    expect,
    onTestFinished,
  }) => {
    const key = 'run/stopped';
    const path = await directory(onTestFinished);
    const state = async (pid: string) => /\) (\w) /.exec(await readFile(`/proc/${pid}/stat`, 'utf8'))?.[1];
    const script = `echo $PPID > ${path}/ours; echo $$ > ${path}/pid; while [ ! -e ${path}/go ]; do sleep 0.05; done; exit 5`;
    await writeFile(`${path}/script`, script);
    const words = ['lock', 'run', key, '--lease', '30s', '--', 'sh', `${path}/script`];
    const running = onTerminal(words);
    const pid = await begun(running, `${path}/pid`);
    const ours = (await written(`${path}/ours`)) ?? '';
    process.kill(Number(ours), 'SIGTSTP');
    await until('both are stopped', async () => (await state(ours)) === 'T' && (await state(pid)) === 'T');
    process.kill(Number(ours), 'SIGCONT');
    await until('the command goes on', async () => (await state(pid)) !== 'T');
    await writeFile(`${path}/go`, '');
    const said = await running.ended;
    expect(said.code).toBe(5);
    expect(said.stdout).toMatch(/evermind: stopped; the lock is not extended until this continues/);
    expect(await client().getLock({ key })).toBeNull();
  });

  test('nodes that hang: the whole group is killed before the lease ends', async ({
    expect,
    onTestFinished,
  }) => {
    const cluster = await Cluster.start();
    onTestFinished(() => cluster.stop());
    const path = await directory(onTestFinished);
    const lease = 6_000;
    const child = `trap '' TERM; echo $$ > ${path}/pid; while :; do date +%s%N > ${path}/last; sleep 0.02; done`;
    const script = `trap '' TERM; sh -c "${child.replace('$$', '\\$\\$')}" & wait; wait`;
    const env = {
      EVERMIND_BASE_URL: cluster.endpoints.join(','),
      EVERMIND_API_KEY: cluster.announcement.apiKey,
    };
    const running = start(['lock', 'run', 'k', '--lease', `${lease}ms`, '--', 'sh', '-c', script], env);
    const pid = await begun(running, `${path}/pid`);
    const view = await cluster.client().getLock({ key: 'k' });
    cluster.signal('SIGSTOP');
    // Every extension that was answered before that left one lease at most.
    const stopped = Date.now();
    expect(view?.expiresIn).toBeLessThanOrEqual(lease);
    await until('the group is dead', async () => !(await lives(pid)), lease + 1_000);
    const last = Number((await readFile(`${path}/last`, 'utf8')).trim()) / 1e6;
    expect(last).toBeLessThan(stopped + lease);
    const said = await running.ended;
    expect(said.code).toBe(76);
    expect(said.stderr).toMatch(/error: the lock was lost: /);
  });
});
