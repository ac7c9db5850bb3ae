import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

import { onTestFinished } from 'vitest';

/** A request as the node saw it. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

interface Spoken {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

/** What it answers: status, body (an object is written as JSON), headers. `cut` breaks the connection. */
export type Answer = Spoken | 'cut' | 'hang';

/**
 * A node that follows a script, for what a real one cannot be made to show on demand: an answer that
 * is lost after it was decided, 429, 504, a proxy's page. Nothing else is tested against it.
 */
export async function scripted(
  script: (seen: Seen, nth: number) => Answer | Promise<Answer>,
): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url = '', headers } = request;
    const note = { method, path: url, headers, body: await text(request) };
    seen.push(note);
    const answer = await script(note, seen.length);
    if (answer === 'hang') return;
    if (answer === 'cut') {
      request.socket.destroy();
      return;
    }
    const { status, body = '', headers: more = {} } = answer;
    const isText = typeof body === 'string';
    response.writeHead(status, { 'Content-Type': isText ? 'text/html' : 'application/json', ...more });
    response.end(isText ? body : JSON.stringify(body));
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

/** An acquire's answer. */
export function granted(seen: Seen, more: object = {}): Answer {
  const {
    key,
    uuid,
    lease = 10_000,
  } = JSON.parse(seen.body) as { key: string; uuid: string; lease?: number };
  const config = { key, lease, retryAttempts: 10, retryDelay: 500, retryJitter: 0, uuid, fifo: false };
  const grant = { acquired: true, lockAcquisitionAttempts: 1, config, message: null };
  return { status: 200, body: { ...grant, fencingToken: 7, expiresIn: lease, waited: 0, ...more } };
}

/** A failure. */
export function problem(status: number, code: string, headers: Record<string, string> = {}): Spoken {
  const body = {
    acquired: false,
    message: code,
    type: '',
    title: '',
    status,
    detail: code,
    code,
    requestId: 'r',
  };
  return { status, body, headers };
}

/** A failure as `softFail` has it. */
export function softened(failure: Spoken): Spoken {
  return { ...failure, status: 200 };
}
