import { request as send } from 'node:http';
import { text } from 'node:stream/consumers';

import { describe, test } from 'vitest';

import { AuthError, createApiKey, deleteApiKey, EvermindError } from '@evermind-sh/sdk';

import { evermind } from './harness/command.ts';
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
    const again: unknown = await deleteApiKey({ licenceKey, apiKey, endpoint: endpoints }).catch(
      (e: unknown) => e,
    );
    expect(again).toMatchObject({ code: 'api_key_not_found', status: 404 });
    expect(EvermindError.is(again)).toBe(true);
  });

  test('are not made under a licence that is not there', async ({ expect }) => {
    const call = createApiKey({ licenceKey: 'evl_wrong', endpoint: shared().endpoints });
    await expect(call).rejects.toMatchObject({ status: 401 });
  });

  test('by the command: create prints the key alone, delete takes it', async ({ expect }) => {
    const { licenceKey } = shared();
    const created = await evermind(['keys', 'create', '-l', licenceKey]);
    expect(created).toMatchObject({ code: 0, stderr: '' });
    expect(created.stdout).toMatch(/^evk_\S+\n$/);
    const apiKey = created.stdout.trim();
    expect(await opens(apiKey)).toBe(true);

    const deleted = await evermind(['keys', 'delete', apiKey, '--licence-key', licenceKey]);
    expect(deleted).toEqual({ code: 0, stdout: 'deleted\n', stderr: '' });
    await until('the key opens nothing', async () => !(await opens(apiKey)));
    const again = await evermind(['keys', 'delete', apiKey], { EVERMIND_LICENCE_KEY: licenceKey });
    expect(again).toMatchObject({ code: 3, stdout: '' });
    expect(again.stderr).toMatch(/^error: .*\nhint: it may be deleted already/);

    const json = await evermind(['keys', 'create', '--licenceKey', licenceKey, '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ apiKey: expect.stringMatching(/^evk_/) as string });
    const refused = await evermind(['keys', 'create', '--licenceKey', 'evl_wrong']);
    expect(refused).toMatchObject({ code: 77, stdout: '' });
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
