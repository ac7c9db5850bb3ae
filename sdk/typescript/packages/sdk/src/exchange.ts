import { type Moment, moment } from './clock.js';
import type { Problem } from './contract.js';
import { type EvermindError, errorOf } from './errors.js';
import { follow } from './timers.js';

/** The part of `fetch` that is used. */
export type Fetch = (url: string, init: FetchInit) => Promise<Response>;

/** What {@link Fetch} is told beside the address. */
export interface FetchInit {
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly body: string | null;
  readonly signal: AbortSignal;
  /** Not to be answered out of a cache (Next.js keeps even these); left out where it is not known. */
  readonly cache?: 'no-store';
}

/** An answer. */
export interface Reply {
  /** The parsed body: the API's own object, whatever it says. */
  readonly body: unknown;
  /** Set where it is a failure, softened or not. */
  readonly error: EvermindError | undefined;
  /** Whether it is not an answer of this API: a proxy's, say. */
  readonly foreign: boolean;
  /** Whether the failure came as a success, as `softFail` asked. */
  readonly softened: boolean;
  /** The moment before the request that was answered was sent. */
  readonly sent: Moment;
  /** The moment after its answer came. */
  readonly received: Moment;
}

/** Where `Request` has no `cache`, to ask for one is an error (workerd before 2024-11). */
const NO_STORE =
  typeof Request === 'function' && 'cache' in Request.prototype ? ({ cache: 'no-store' } as const) : {};

/** What came of one try. */
export interface Outcome {
  /** The answer, if there was one. */
  readonly reply?: Reply;
  /** What the answer says is wrong, or why there is none. */
  readonly error: EvermindError | undefined;
  /** The connection broke or was refused. */
  readonly broken: boolean;
}

/** Sends a request once, and reads its answer, for `limit` ms at most. Never rejects. */
export async function exchange(
  fetch: Fetch | undefined,
  url: string,
  init: Omit<FetchInit, 'signal'>,
  limit: number,
  end: AbortSignal,
): Promise<Outcome> {
  const stop = new AbortController();
  const unfollow = follow(stop, end);
  const timer = setTimeout(() => {
    stop.abort();
  }, limit);
  const sent = moment();
  try {
    // Looked up now: tests and frameworks put another in its place.
    const send = fetch ?? (globalThis as { fetch?: Fetch }).fetch;
    if (!send) throw new TypeError('there is no fetch');
    const response = await send(url, { ...init, ...NO_STORE, signal: stop.signal });
    const reply = read(url, response, await response.text(), sent);
    return { reply, error: reply.error, broken: false };
  } catch (cause) {
    const late = stop.signal.aborted && !end.aborted;
    return { error: late ? unanswered() : unreachable(url, cause), broken: !late };
  } finally {
    clearTimeout(timer);
    unfollow();
  }
}

/** The error of a call whose time is up. */
export function unanswered(): EvermindError {
  return errorOf('no node answered in time', { code: 'unreachable' });
}

function unreachable(url: string, cause: unknown): EvermindError {
  // Node says only "fetch failed"; what it knows is one level down.
  const { message, cause: inner } = (cause ?? {}) as {
    message?: string;
    cause?: { message?: string; code?: string };
  };
  // Of several addresses that failed there is no message, but a code.
  const why = [inner?.message, inner?.code, message].find(Boolean) ?? String(cause);
  return errorOf(`no node answered: ${new URL(url).origin}: ${why}`, { code: 'unreachable', cause });
}

/** Whether an answer has these numbers, to reckon with. */
export function hasNumbers({ body }: Reply, ...names: string[]): boolean {
  const numbers = (body ?? {}) as Record<string, unknown>;
  return names.every((name) => Number.isFinite(numbers[name]));
}

/** The error of a success that says something else than was asked. */
export function notUnderstood(): EvermindError {
  return errorOf('the answer is not of this API', { code: 'not_understood' });
}

/** Whether a connection was not even made; only some runtimes tell. */
export function wasNeverSent(error: EvermindError): boolean {
  const cause = error.cause as { cause?: { code?: unknown } } | undefined;
  return cause?.cause?.code === 'ECONNREFUSED';
}

function read(url: string, response: Response, text: string, sent: Moment): Reply {
  const received = moment();
  const body = parse(text);
  const problem = typeof body?.['code'] === 'string' ? (body as Problem) : undefined;
  const ok = response.ok && !problem;
  const understood = body !== undefined || response.status === 204;
  const answer = { body, softened: response.ok && problem !== undefined, sent, received };
  if (ok && understood) return { ...answer, foreign: false, error: undefined };
  const status = problem?.status ?? response.status;
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  let message = problem?.message ?? `an answer that is not of this API, with HTTP status ${status}`;
  // A body that is not ours is a proxy's, say.
  let code = problem?.code ?? (ok ? 'not_understood' : `http_${status}`);
  if (response.redirected) {
    // On the way a POST became a GET, and another origin is not told the API key.
    const [from, to] = [new URL(url).origin, new URL(response.url).origin];
    message = `${from} redirects to ${to}: give the address that it redirects to as the endpoint (${message})`;
    code = 'redirected';
  }
  const error = errorOf(message, {
    code,
    status,
    requestId: problem?.requestId,
    retryAfter: seconds >= 0 ? seconds * 1000 : undefined,
    body: problem ?? text,
  });
  return { ...answer, foreign: !problem, error };
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
