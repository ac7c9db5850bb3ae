import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { browse } from './harness/chromium.ts';
import { Cluster } from './harness/cluster.ts';
import { shared } from './harness/shared.ts';

const run = promisify(execFile);
const workspace = fileURLToPath(new URL('..', import.meta.url));
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/** An empty project with both packages as npm would publish them. */
let project: string;

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'evermind-packed-'));
  const pack = [
    'pack',
    '--pack-destination',
    project,
    '--workspace',
    '@evermind-sh/sdk',
    '--workspace',
    'evermind',
  ];
  await run('npm', pack, { cwd: workspace });
  await writeFile(join(project, 'package.json'), '{"name":"empty","private":true}');
  const tarballs = (await readdir(project))
    .filter((name) => name.endsWith('.tgz'))
    .map((name) => `./${name}`);
  expect(tarballs).toHaveLength(2);
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', ...tarballs], { cwd: project });
});

afterAll(() => rm(project, { recursive: true }));

async function smoke(name: string): Promise<unknown> {
  await copyFile(fixture(name), join(project, name));
  const { apiKey, endpoints } = shared();
  const { stdout } = await run(process.execPath, [name, endpoints.join(','), apiKey], { cwd: project });
  return JSON.parse(stdout);
}

describe('the packed packages', () => {
  test('hold what they need, and nothing else', async () => {
    const files = async (name: string) => (await readdir(join(project, 'node_modules', name, 'dist'))).sort();
    expect(await files('@evermind-sh/sdk')).toEqual([
      'index.cjs',
      'index.cjs.map',
      'index.d.cts',
      'index.d.ts',
      'index.js',
      'index.js.map',
    ]);
    expect(await files('evermind')).toEqual(['bin.js', 'index.cjs', 'index.d.cts', 'index.d.ts', 'index.js']);
    const manifest = JSON.parse(
      await readFile(join(project, 'node_modules/@evermind-sh/sdk/package.json'), 'utf8'),
    ) as object;
    expect(manifest).not.toHaveProperty('dependencies');
    expect((await readdir(join(project, 'node_modules'))).sort()).toEqual([
      '.bin',
      '.package-lock.json',
      '@evermind-sh',
      'evermind',
    ]);
  });

  test('work as ES modules', async () => {
    expect(await smoke('smoke.mjs')).toEqual({ token: expect.any(Number) as number, refused: true });
  });

  test('work as CommonJS', async () => {
    expect(await smoke('smoke.cjs')).toEqual({ token: expect.any(Number) as number, refused: true });
  });

  test('have types for both, that check without a library but their own', async () => {
    await copyFile(fixture('smoke.mts'), join(project, 'smoke.mts'));
    await copyFile(fixture('smoke.cts'), join(project, 'smoke.cts'));
    const tsc = join(workspace, 'node_modules/typescript/bin/tsc');
    const options = [
      '--strict',
      '--noEmit',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2022,dom',
    ];
    const compile = run(process.execPath, [tsc, ...options, 'smoke.mts', 'smoke.cts'], { cwd: project });
    await expect(
      compile.catch((error: unknown) => (error as { stdout: string }).stdout),
    ).resolves.toMatchObject({ stdout: '' });
  });

  test('bring the command', async () => {
    const { stdout } = await run('npx', ['--offline', 'evermind', '--version'], { cwd: project });
    expect(stdout).toMatch(/^evermind \d+\.\d+\.\d+\n$/);
  });

  test('work in a browser', async ({ onTestFinished }) => {
    let found: object = {};
    let tell: (result: unknown) => void = () => undefined;
    const result = new Promise((resolve) => (tell = resolve));
    const server = createServer((request, response) => {
      const answer = async (): Promise<[string, string | Buffer]> => {
        switch (request.url) {
          case '/':
            return ['text/html', await readFile(fixture('smoke.html'))];
          case '/sdk.js':
            return [
              'text/javascript',
              await readFile(join(project, 'node_modules/@evermind-sh/sdk/dist/index.js')),
            ];
          case '/cluster.json':
            return ['application/json', JSON.stringify(found)];
          case '/result':
            tell(JSON.parse(await text(request)));
            return ['text/plain', ''];
          default:
            response.statusCode = 404;
            return ['text/plain', ''];
        }
      };
      void answer().then(([type, body]) => response.setHeader('Content-Type', type).end(body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    // The nodes are of other origins, and allow this one.
    const cluster = await Cluster.start('--cors-origin', origin);
    onTestFinished(() => cluster.stop());
    found = { endpoint: cluster.endpoints, apiKey: cluster.announcement.apiKey };

    const browser = browse(`${origin}/`);
    onTestFinished(browser.close);
    const told = await Promise.race([result, browser.gone]);
    expect(told).toEqual({
      fencingToken: expect.any(Number) as number,
      aborted: false,
      held: true,
      refused: true,
      free: true,
      auth: true,
    });
  });
});
