import { describe, expect, test } from 'vitest';

import { evermind, rust, type Said, start } from './harness/command.ts';
import { freePort } from './harness/ports.ts';
import { client } from './harness/shared.ts';

/** The same, but for what differs from one acquisition to the next. */
function alike({ code, stdout, stderr }: Said): object {
  const blank = (text: string) =>
    text
      .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UUID')
      .replace(/token {2}\d+/g, 'token  N')
      .replace(/"(fencingToken|expiresIn|waiting)":\d+/g, '"$1":N')
      .replace(/\d+(\.\d+)?(ms|s) left/g, 'T left');
  return { code, stdout: blank(stdout), stderr: blank(stderr) };
}

/** Both commands, with the name of the lock that each of them has to itself for KEY. */
async function both(key: string, words: string[], env: NodeJS.ProcessEnv = {}): Promise<[object, object]> {
  const of = (name: string) => words.map((word) => (word === 'KEY' ? name : word));
  const [ours, theirs] = await Promise.all([evermind(of(`${key}-a`), env), rust(of(`${key}-b`), env)]);
  const rename = (said: Said, name: string) =>
    JSON.parse(JSON.stringify(alike(said)).replaceAll(name, 'KEY')) as object;
  return [rename(ours, `${key}-a`), rename(theirs, `${key}-b`)];
}

describe.concurrent('lock acquire, extend, release', () => {
  test('say and do what the server’s own command does', async ({ expect }) => {
    for (const words of [
      ['lock', 'acquire', 'KEY', '--lease', '1m', '--uuid', 'me'],
      ['lock', 'extend', 'KEY', '--uuid', 'me', '--by', '10s'],
      ['lock', 'extend', 'KEY', '--uuid', 'me', '--by=1500ms', '--json'],
      ['lock', 'acquire', 'KEY', '--wait', '0'],
      ['lock', 'acquire', 'KEY', '--wait=0', '--json'],
      [
        'lock',
        'acquire',
        'KEY',
        '--retry-attempts',
        '1',
        '--retry-delay',
        '50ms',
        '--retry-jitter',
        '0',
        '--fifo',
      ],
      ['lock', 'extend', 'KEY', '--uuid', 'you', '--by', '10s'],
      ['lock', 'extend', 'KEY', '--uuid', 'me', '--by', '48h'],
      ['lock', 'release', 'KEY', '--uuid', 'you'],
      ['lock', 'release', 'KEY', '--uuid', 'me'],
      ['lock', 'release', 'KEY', '--uuid', 'me', '--json'],
      ['lock', 'acquire', 'KEY', '--lease', '1m', '--uuid', 'me', '--json'],
    ]) {
      const [ours, theirs] = await both('command/same', words);
      expect(ours, words.join(' ')).toEqual(theirs);
    }
  });

  test('a failure says what to do, on stderr, and its exit code says which it is', async ({ expect }) => {
    const key = 'command/codes';
    await client().acquire({ key, lease: 60_000, uuid: 'holder' });
    const cases: [string[], number, RegExp, NodeJS.ProcessEnv?][] = [
      [
        ['lock', 'acquire', key, '--wait', '0'],
        75,
        /^error: another holds.* \(request [^)]+\)\nhint: wait longer with --wait/,
      ],
      [
        ['lock', 'acquire', key, '--wait', '2500ms'],
        75,
        /^evermind: waiting for command\/codes: it is held, or no node can grant it yet\nerror: another held/,
      ],
      [['lock', 'release', key, '--uuid', 'you'], 3, /hint: use the uuid that acquire printed/],
      [['lock', 'release', 'command/free', '--uuid', 'you'], 3, /hint: it is free/],
      [['lock', 'acquire', key, '--lease', '25h'], 2, /error: lease must be .*\nhint: see --help/s],
      [
        ['lock', 'acquire', key],
        77,
        /hint: give a valid key with --api-key/,
        { EVERMIND_API_KEY: 'evk_wrong' },
      ],
      [
        ['lock', 'acquire', key],
        2,
        /error: no API key was given\nhint: set EVERMIND_API_KEY/,
        { EVERMIND_API_KEY: ' ' },
      ],
      [
        ['lock', 'acquire', key],
        2,
        /error: no endpoint was given\nhint: give one with --url/,
        { EVERMIND_BASE_URL: '' },
      ],
      [
        ['lock', 'acquire', key, '--url', 'locks'],
        2,
        /error: "locks" is not an endpoint.*\nhint: for example --url/,
      ],
      [['lock', 'acquire'], 2, /error: KEY is missing\nhint: see evermind lock acquire --help/],
      [['lock', 'acquire', key, 'more'], 2, /unexpected argument "more"/],
      [['lock', 'acquire', key, '--nonsense'], 2, /error: Unknown option '--nonsense'\n/],
      [['lock', 'acquire', key, '--lease', '1d'], 2, /--lease "1d": a time is/],
      [
        ['lock', 'acquire', key, '--wait', '1s', '--retry-delay', '1s'],
        2,
        /--wait cannot be used with --retry-delay/,
      ],
      [['lock', 'acquire', key, '--retry-attempts', 'many'], 2, /a whole number is wanted/],
      [['lock', 'extend', key, '--uuid', 'holder'], 2, /--by is missing/],
      [['lock', 'release', key], 2, /--uuid is missing/],
      [['lock', 'steal', key], 2, /there is no command "lock steal"/],
      [[], 2, /no command was given\nhint: see evermind --help/],
      [['keys', 'create'], 2, /no licence key was given\nhint: set EVERMIND_LICENCE_KEY/],
      [['keys', 'delete', '-l', 'evl_x'], 2, /API_KEY is missing/],
    ];
    for (const [words, code, stderr, env] of cases) {
      const said = await evermind(words, env);
      expect(said, words.join(' ')).toMatchObject({ code, stdout: '' });
      expect(said.stderr).toMatch(stderr);
    }
  });

  test('no node at all is 69, after thirty seconds', { timeout: 60_000 }, async ({ expect }) => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const [ours, theirs] = await both('command/dead', ['lock', 'release', 'KEY', '--uuid', 'u'], {
      EVERMIND_BASE_URL: url,
    });
    expect(ours).toMatchObject({ code: 69, stdout: '' });
    expect(theirs).toMatchObject({ code: 69, stdout: '' });
    expect((ours as Said).stderr).toMatch(/error: no node answered: .*\nhint: is the cluster running\?/);
  });

  test('help and version go to stdout', async ({ expect }) => {
    for (const [words, text] of [
      [['--help'], /Usage: evermind COMMAND/],
      [['help'], /Usage: evermind COMMAND/],
      [['lock', 'acquire', '--help'], /Usage: evermind lock acquire .*75 {3}not acquired/s],
      [['lock', 'run', 'k', '-h', '--', 'true'], /Usage: evermind lock run/],
      [['keys', 'create', '--help'], /--licenceKey KEY/],
      [['--version'], /^evermind \d+\.\d+\.\d+\n$/],
    ] as [string[], RegExp][]) {
      const said = await evermind(words);
      expect(said).toMatchObject({ code: 0, stderr: '' });
      expect(said.stdout).toMatch(text);
    }
  });

  test('a reader that has gone away ends the command in peace', async ({ expect }) => {
    const { child, ended } = start(['lock', 'run', '--help']);
    child.stdout?.destroy();
    expect(await ended).toMatchObject({ code: 1, stderr: 'error: cannot write to stdout: write EPIPE\n' });
  });
});

test('a time is read and shown as the server’s own command does', async () => {
  const duration = await import('../packages/evermind/src/duration.ts');
  for (const [text, ms] of [
    ['0', 0],
    ['1500ms', 1_500],
    ['30s', 30_000],
    ['10m', 600_000],
    ['24h', 86_400_000],
  ] as const) {
    expect(duration.parse(text), text).toBe(ms);
  }
  for (const text of ['', 's', '1500', '1.5s', '-1', '1d', '99999999999999999999s', ' 1s', '1s\n']) {
    expect(() => duration.parse(text), text).toThrow(RangeError);
  }
  for (const [ms, text] of [
    [0, '0ms'],
    [999, '999ms'],
    [12_345, '12.3s'],
    [125_000, '2m05s'],
    [3_660_000, '1h01m'],
  ] as const) {
    expect(duration.show(ms)).toBe(text);
  }
});

test('a wait never lasts longer than asked', async () => {
  const { lasting } = await import('../packages/evermind/src/taking.ts');
  for (const [asked, attempts, window] of [
    [0, 0, 0],
    [1, 1, 1],
    [499, 1, 499],
    [5_000, 10, 5_000],
    [5_250, 10, 5_250],
    [600_000, 1_000, 600_000],
  ] as const) {
    const { retryAttempts, retryDelay } = lasting(asked);
    expect(retryAttempts, String(asked)).toBe(attempts);
    expect(retryAttempts * retryDelay, String(asked)).toBe(window);
  }
});
