import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { describe, test } from 'vitest';

import { Cluster } from './harness/cluster.ts';
import { evermind, inShell, onTerminal, type Running, type Said, start } from './harness/command.ts';
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

  test.for([
    ['goes on under the same lock', '30s', 5],
    ['is not continued when its lock was lost meanwhile', '2s', 76],
  ] as const)('a job that was stopped %s', async ([name, lease, code], { expect, onTestFinished }) => {
    const path = await directory(onTestFinished);
    const state = async (pid: string) => /\) (\w) /.exec(await readFile(`/proc/${pid}/stat`, 'utf8'))?.[1];
    const script = `echo $PPID > ${path}/ours; echo $$ > ${path}/pid; while [ ! -e ${path}/go ]; do sleep 0.05; done; echo went on; exit 5`;
    await writeFile(`${path}/script`, script);
    const job = `$RUN lock run 'run/${name}' --lease ${lease} -- sh ${path}/script`;
    const running = onTerminal(
      `${job}; echo stopped=$?; while [ ! -e ${path}/fg ]; do sleep 0.05; done; fg; echo rc=$?`,
    );
    const pid = await begun(running, `${path}/pid`);
    const ours = Number(await written(`${path}/ours`));
    // As the terminal does it: the whole job gets it.
    process.kill(-ours, 'SIGTSTP');
    const both = [String(ours), pid];
    await until('both are stopped', async () => (await Promise.all(both.map(state))).join('') === 'TT');
    if (code === 76) {
      const free = async () => (await client().getLock({ key: `run/${name}` })) === null;
      await until('the lease runs out', free);
      await sleep(500);
      // What does nothing is not ended for it.
      expect(await lives(pid)).toBe(true);
    }
    if (code === 5) await writeFile(`${path}/go`, '');
    await writeFile(`${path}/fg`, '');
    const { stdout } = await running.ended;
    // SIGTSTP is 148. A busy machine's guard stops itself with SIGSTOP, which is 147: a job all the same.
    expect(stdout).toMatch(/stopped=14[78]/);
    expect(stdout).toContain(`rc=${code}`);
    if (code === 76) expect(stdout).not.toContain('went on');
    expect(await client().getLock({ key: `run/${name}` })).toBeNull();
  });

  test('SIGKILL of the guard ends the command, and what it started', async ({ expect, onTestFinished }) => {
    const path = await directory(onTestFinished);
    const script = `setsid sh -c 'echo $$ > ${path}/daemon; exec sleep 60' & trap '' TERM; while [ ! -s ${path}/daemon ]; do sleep 0.02; done; echo $$ > ${path}/pid; while :; do sleep 0.05; done`;
    const running = start(['lock', 'run', 'run/killed', '--lease', '6s', '--', 'sh', '-c', script]);
    const pid = await begun(running, `${path}/pid`);
    const daemon = (await written(`${path}/daemon`)) ?? '';
    const next = client().acquire({ key: 'run/killed', retryAttempts: 100 });
    running.child.kill('SIGKILL');
    // Nobody gave the lock back: the next has it when the lease is over, and runs beside nobody.
    await next;
    expect(await Promise.all([pid, daemon].map(lives))).toEqual([false, false]);
  });

  test('a guard that stands still does not let the command outlive the lease', async ({
    expect,
    onTestFinished,
  }) => {
    const path = await directory(onTestFinished);
    const script = `trap '' TERM; echo $$ > ${path}/pid; while :; do sleep 0.05; done`;
    const running = start(['lock', 'run', 'run/still', '--lease', '6s', '--', 'sh', '-c', script]);
    const pid = await begun(running, `${path}/pid`);
    running.child.kill('SIGSTOP');
    onTestFinished(() => void running.child.kill('SIGKILL'));
    await client().acquire({ key: 'run/still', retryAttempts: 100 });
    expect(await lives(pid)).toBe(false);
    running.child.kill('SIGCONT');
    expect((await running.ended).code).toBe(76);
  });

  test('a watch that is killed is replaced', async ({ expect, onTestFinished }) => {
    const path = await directory(onTestFinished);
    const script = `echo $$ > ${path}/pid; while :; do sleep 0.05; done`;
    const running = start(['lock', 'run', 'run/watch', '--lease', '3s', '--', 'sh', '-c', script]);
    const pid = await begun(running, `${path}/pid`);
    const watches = () => {
      const words = ['--parent', String(running.child.pid), '--full', 'lock-run-watch'];
      return spawnSync('pgrep', words).stdout.toString().trim();
    };
    const first = watches();
    expect(first).toMatch(/^\d+$/);
    process.kill(Number(first), 'SIGKILL');
    await until('there is another', () => /^\d+$/.test(watches()) && watches() !== first);
    // It has what it needs to do its work.
    await sleep(300);
    running.child.kill('SIGKILL');
    await until('the command is gone', async () => !(await lives(pid)));
  });

  test('a stderr or stdout that cannot be written keeps nothing from being ended', async ({
    expect,
    onTestFinished,
  }) => {
    const key = 'run/unwritable';
    const path = await directory(onTestFinished);
    const script = `trap '' TERM; echo $$ > ${path}/pid; while :; do sleep 0.05; done`;
    for (const [nth, to] of [
      '2>/dev/full >/dev/full',
      '2> >(exec true) > >(exec true)',
      '2>&- >&-',
    ].entries()) {
      await rm(`${path}/pid`, { force: true });
      const uuid = `me-${nth}`;
      const line = `$RUN lock run ${key} --lease 3s --uuid ${uuid} --adopt -- sh -c "$SCRIPT" ${to}`;
      const running = inShell(`${line}; echo rc=$?`, { SCRIPT: script });
      const pid = await begun(running, `${path}/pid`);
      await client().release({ key, uuid });
      await until('the command is gone', async () => !(await lives(pid)));
      expect((await running.ended).stdout).toContain('rc=76');
    }
  });

  test('a reader of stderr that stands still does not either', async ({ expect, onTestFinished }) => {
    const key = 'run/full-pipe';
    const path = await directory(onTestFinished);
    // The command fills the pipe, and nobody reads it.
    const script = `trap '' TERM; echo $$ > ${path}/pid; head -c 1000000 /dev/zero >&2 & while :; do sleep 0.05; done`;
    const line = `$RUN lock run ${key} --lease 3s --uuid me --adopt -- sh -c "$SCRIPT" 2> >(exec sleep 8)`;
    const running = inShell(`${line}; echo rc=$?`, { SCRIPT: script });
    const pid = await begun(running, `${path}/pid`);
    await client().release({ key, uuid: 'me' });
    await until('the command is gone', async () => !(await lives(pid)), 6_000);
    expect((await running.ended).stdout).toContain('rc=76');
  });

  test('the API key is not handed to the command, unless it is asked for', async ({ expect }) => {
    const env = { EVERMIND_LICENCE_KEY: 'evl_x', EVERMIND_ADMIN_TOKEN: 'x' };
    const words = ['--', 'sh', '-c', 'env | grep -c -e API_KEY -e LICENCE_KEY -e ADMIN_TOKEN'];
    expect((await evermind(['lock', 'run', 'run/secret', ...words], env)).stdout).toBe('0\n');
    const asked = await evermind(['lock', 'run', 'run/secret', '--pass-api-key', ...words], env);
    expect(asked.stdout).toBe('3\n');
  });

  test('two under one --uuid do not run at once; --adopt takes over', async ({ expect }) => {
    const key = 'run/uuid';
    const script = 'date +%s%N; sleep 0.5; date +%s%N';
    const words = ['lock', 'run', key, '--uuid', 'backup@host', '--', 'sh', '-c', script];
    const [first, second] = await Promise.all([evermind(words), evermind(words)]);
    const spans = [first, second].map(({ stdout }) => stdout.trim().split('\n').map(BigInt));
    spans.sort(([a = 0n], [b = 0n]) => (a < b ? -1 : 1));
    expect(spans[0]?.[1]).toBeLessThan(spans[1]?.[0] ?? 0n);
    const { fencingToken } = await client().acquire({ key, uuid: 'handed-over', lease: 20_000 });
    const adopted = await evermind([
      ...['lock', 'run', key, '--uuid', 'handed-over', '--adopt'],
      ...['--', 'sh', '-c', 'echo $EVERMIND_FENCING_TOKEN'],
    ]);
    expect(adopted).toMatchObject({ code: 0, stdout: `${fencingToken}\n` });
  });

  test('what is left behind is named', async ({ expect, onTestFinished }) => {
    const path = await directory(onTestFinished);
    const script = `sleep 47 & setsid sh -c 'echo $$ > ${path}/daemon; exec sleep 48' >/dev/null 2>&1 & while [ ! -s ${path}/daemon ]; do sleep 0.02; done`;
    const said = await evermind(['lock', 'run', 'run/behind', '--', 'sh', '-c', script]);
    const daemon = (await written(`${path}/daemon`)) ?? '';
    onTestFinished(() => void process.kill(Number(daemon), 'SIGKILL'));
    expect(said.code).toBe(0);
    expect(said.stderr).toMatch(/left processes running, which were ended: sleep \(\d+\)/);
    expect(said.stderr).toMatch(/go on without the lock, in a session of their own: \w+ \(\d+\)/);
    expect(await lives(daemon)).toBe(true);
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
