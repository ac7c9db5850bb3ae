import { request as send } from 'node:http';
import { text } from 'node:stream/consumers';

import { describe, test } from 'vitest';

import {
  AuthError,
  createApiKey,
  deleteApiKey,
  LicenceInactiveError,
  QuotaExceededError,
} from '@evermind-sh/sdk';

import { evermind, rust, type Said, start } from './harness/command.ts';
import { licence } from './harness/licence.ts';
import { client, shared } from './harness/shared.ts';
import { until } from './harness/until.ts';

/** Whether a key opens anything. */
async function opens(apiKey: string): Promise<boolean> {
  try {
    await client({ apiKey }).cluster();
    return true;
  } catch (error) {
    if (AuthError.is(error)) return false;
    throw error;
  }
}

/** Sends what an older client sends, and reads the answer: status and body. */
async function raw(method: string, body: object): Promise<{ status: number; body: string }> {
  const content = JSON.stringify(body);
  const headers = {
    Accept: 'application/json, text/plain, */*',
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(content),
  };
  return new Promise((resolve, reject) => {
    const request = send(`${shared().endpoints[0] ?? ''}/api-key`, { method, headers }, (response) => {
      text(response).then((body) => {
        resolve({ status: response.statusCode ?? 0, body });
      }, reject);
    });
    request.once('error', reject);
    request.end(content);
  });
}

describe.concurrent('API keys', () => {
  test('are made under a licence, and deleted under it', async ({ expect }) => {
    const { licenceKey, endpoints } = shared();
    const { apiKey, id } = await createApiKey({ licenceKey, endpoint: endpoints });
    expect(apiKey).toMatch(/^evk_/);
    expect(id).toBeTruthy();
    expect(await opens(apiKey)).toBe(true);
    await deleteApiKey({ licenceKey, apiKey, endpoint: endpoints });
    await until('the key opens nothing', async () => !(await opens(apiKey)));
    // Twice is as good as once; what is not this licence's own is another matter.
    await deleteApiKey({ licenceKey, apiKey, endpoint: endpoints });
    const other = deleteApiKey({ licenceKey, apiKey: shared().apiKey, endpoint: endpoints });
    await expect(other).rejects.toMatchObject({
      name: 'EvermindError',
      code: 'api_key_not_found',
      status: 404,
    });
  });

  test('are not made under a licence that is not there', async ({ expect }) => {
    const call = createApiKey({ licenceKey: 'evl_wrong', endpoint: shared().endpoints });
    await expect(call).rejects.toMatchObject({ status: 401 });
  });

  test('by the command: create prints the key alone, delete takes it', async ({ expect }) => {
    const { licenceKey } = shared();
    const created = await evermind(['keys', 'create', '-l', licenceKey]);
    expect(created.code).toBe(0);
    expect(created.stdout).toMatch(/^evk_\S+\n$/);
    expect(created.stderr).toMatch(/^made \S+; the key itself is shown this once: keep it now\nhint: /);
    const apiKey = created.stdout.trim();
    expect(await opens(apiKey)).toBe(true);

    const done = { code: 0, stdout: 'deleted: every node refuses this API key now\n', stderr: '' };
    expect(await evermind(['keys', 'delete', apiKey, '--licence-key', licenceKey])).toEqual(done);
    await until('the key opens nothing', async () => !(await opens(apiKey)));
    // By the environment and from stdin, and as JSON.
    const env = { EVERMIND_LICENCE_KEY: licenceKey };
    const piped = start(['keys', 'delete', '-', '--json'], env, 'open');
    piped.child.stdin?.end(`${apiKey}\n`);
    expect(await piped.ended).toEqual({ code: 0, stdout: '{"deleted":true}\n', stderr: '' });

    const json = await evermind(['keys', 'create', '--licenceKey', licenceKey, '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ apiKey: expect.stringMatching(/^evk_/) as string });
  });

  test('refused, the command says what the server’s own says', async ({ expect }) => {
    const { licenceKey, apiKey } = shared();
    const mistyped = (key: string) => `${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}`;
    for (const [code, words] of [
      [77, ['keys', 'create', '--licenceKey', 'evl_wrong']],
      [2, ['keys', 'create', '--licenceKey', mistyped(licenceKey)]],
      [2, ['keys', 'create', '--licenceKey', apiKey]],
      [2, ['keys', 'delete', mistyped(apiKey), '-l', licenceKey]],
      [2, ['keys', 'delete', licenceKey, '-l', licenceKey]],
      [3, ['keys', 'delete', apiKey, '-l', licenceKey]],
      [3, ['keys', 'delete', 'evk_wrong', '-l', licenceKey, '--json']],
    ] as [number, string[]][]) {
      const [ours, theirs] = await Promise.all([evermind(words), rust(words)]);
      const plain = ({ code, stdout, stderr }: Said) =>
        JSON.stringify({ code, stdout, stderr: stderr.split('\nhint:')[0] }).replace(
          /[0-9a-f]{8}-[0-9a-f-]{27}/g,
          'ID',
        );
      expect(plain(ours), words.join(' ')).toBe(plain(theirs));
      expect(ours.code, words.join(' ')).toBe(code);
      expect(ours.stderr).toMatch(/\nhint: /);
    }
  });

  test('by the command, of a node that cannot be one: that is wrong usage', async ({ expect }) => {
    const { licenceKey, apiKey } = shared();
    for (const words of [
      ['keys', 'create'],
      ['keys', 'delete', apiKey],
    ]) {
      const said = await evermind([...words, '-l', licenceKey, '--url', 'nonsense']);
      expect(said).toMatchObject({ code: 2, stdout: '' });
      expect(said.stderr).toMatch(/^error: "nonsense" is not an endpoint.*\nhint: for example --url/);
    }
  });

  test('end with the allowance of their licence, and with the licence', async ({ expect }) => {
    const { apiKey, used, revoke } = await licence('keys/allowance', 2);
    const evermind = client({ apiKey });
    const key = 'keys/allowance';
    const { config } = await evermind.acquire({ key });
    await evermind.extend({ key, uuid: config.uuid, extendBy: 1_000 });
    await evermind.release({ key, uuid: config.uuid });
    const held = await evermind.acquire({ key });
    expect(await used()).toBe(2);
    await expect(evermind.acquire({ key })).rejects.toThrow(QuotaExceededError);
    expect(await evermind.acquire({ key, softFail: true })).toMatchObject({
      code: 'quota_exceeded',
      status: 402,
    });
    expect(await used()).toBe(2);

    await revoke();
    const { uuid } = held.config;
    await expect(evermind.extend({ key, uuid, extendBy: 1 })).rejects.toThrow(LicenceInactiveError);
  });

  test('an older command line client gets what it reads', async ({ expect }) => {
    const { licenceKey } = shared();
    const created = await raw('POST', { licenceKey });
    expect(created.status).toBe(200);
    const { apiKey } = JSON.parse(created.body) as { apiKey: string };
    expect(await opens(apiKey)).toBe(true);
    // It parses the body of a delete that failed, and that alone.
    const failed = await raw('DELETE', { licenceKey, apiKey: 'evk_wrong' });
    expect(failed.status).toBe(404);
    expect(JSON.parse(failed.body)).toMatchObject({
      code: 'api_key_not_found',
      message: expect.any(String) as string,
    });
    const refused = await raw('DELETE', { licenceKey: 'evl_wrong', apiKey });
    expect(refused.status).toBe(401);
    expect(JSON.parse(refused.body)).toMatchObject({ message: expect.any(String) as string });
    expect(await raw('DELETE', { licenceKey, apiKey })).toEqual({ status: 204, body: '' });
    await until('the key opens nothing', async () => !(await opens(apiKey)));
  });
});
