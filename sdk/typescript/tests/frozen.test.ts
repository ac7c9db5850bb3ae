import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { client, shared } from './harness/shared.ts';

/** A store that refuses a token lower than the highest it has seen. */
async function fencedStore() {
  let highest = 0;
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const token = Number(body);
      response.statusCode = token < highest ? 409 : 204;
      highest = Math.max(highest, token);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, close: () => server.close() };
}

test('a holder frozen past its lease: the signal fires, the fenced write is refused', async () => {
  const key = 'frozen';
  const evermind = client();
  const { apiKey, endpoints } = shared();
  const store = await fencedStore();
  const script = fileURLToPath(new URL('fixtures/frozen-holder.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, endpoints.join(','), apiKey, key, store.url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const event = async () => JSON.parse((await lines.next()).value as string) as Record<string, unknown>;
  try {
    const holds = await event();
    expect(holds).toMatchObject({ event: 'holds', status: 204 });

    child.kill('SIGSTOP');
    // The lease runs out, and somebody else is next.
    const next = await evermind.acquire({ key, lease: 60_000, retryAttempts: 20 });
    expect(next.fencingToken).toBeGreaterThan(holds['fencingToken'] as number);
    const written = await fetch(store.url, { method: 'PUT', body: String(next.fencingToken) });
    expect(written.status).toBe(204);

    child.kill('SIGCONT');
    expect(await event()).toEqual({ event: 'aborted', lost: true, status: 409 });
    expect(await event()).toEqual({ event: 'rejected', lost: true });
    // It gave back what was its own, and nothing else.
    expect(await evermind.getLock({ key })).toMatchObject({ fencingToken: next.fencingToken });
  } finally {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
    store.close();
  }
});
