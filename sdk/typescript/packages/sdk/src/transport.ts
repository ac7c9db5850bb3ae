import { monotonic } from './clock.js';
import { Course } from './course.js';
import { Endpoints } from './endpoints.js';
import {
  type Fetch,
  type FetchInit,
  type Outcome,
  type Reply,
  exchange,
  unanswered,
  wasNeverSent,
} from './exchange.js';
import { follow, pause } from './timers.js';
import { uuid } from './uuid.js';

/** A server answers within the waiting window and 10 s; the rest is for the way there and back. */
const GRACE = 12_000;
/** The longest that one request waits, in ms: proxies and fetch implementations cut idle ones. */
const SLICE = 25_000;
/**
 * When the request that takes over from a waiting one is sent, in ms after that one. For the rest of
 * the slice both stand at one place in line: it is never without a caller, and so never passed over.
 * Where there are several nodes, two of them have a request at any moment: one that is switched off
 * says nothing, and the place must not be lost to the wait for it.
 */
const RELIEF = 12_000;
const RELIEF_ALONE = 24_000;
/** How long after it was stopped a request may go on pretending to be under way, in ms. */
const HANG = 1_000;
/** Statuses that say: come again. */
const PASSING = [429, 503, 504];

/** One call, whatever it is, as often as it is sent. */
export interface Call {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  readonly body?: object;
  /** Whether to give the operation an `Idempotency-Key`: under it, it is carried out once. */
  readonly named?: boolean;
  /** The longest that it may stand in line, in ms. */
  readonly window?: number;
  /** What a node has to answer beyond that, in ms, before another is asked. */
  readonly grace?: number;
  /** Whether to repeat nothing that may have been carried out. */
  readonly once?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** One request under way. */
interface Try {
  readonly endpoint: number;
  /** ms of the monotonic clock. */
  readonly sent: number;
  readonly outcome: Promise<Outcome>;
}

/** Sends calls to the nodes of one cluster until one of them answers. */
export class Transport {
  readonly #endpoints: Endpoints;
  readonly #headers: Record<string, string>;
  readonly #fetch: Fetch;

  constructor(
    endpoint: string | readonly string[] | undefined,
    headers: Record<string, string>,
    fetch: Fetch = globalThis.fetch,
  ) {
    this.#endpoints = new Endpoints(endpoint);
    this.#headers = headers;
    this.#fetch = fetch;
  }

  /**
   * Sends a call until a node answers it, round the endpoints: again after network failures, 429,
   * 503 and 504, for at most 30 s of trouble. A long wait goes in slices, each the same request under
   * the same `Idempotency-Key`: the server takes it for the one that stands in line already, leaves
   * the terms of the wait as they are (its window, its cost, its place), and answers both.
   *
   * @throws the signal's reason once it is aborted; {@link UnavailableError} where no node answered.
   */
  async call(call: Call): Promise<Reply> {
    const { window = 0, grace = GRACE } = call;
    const sliced = window + grace > SLICE;
    const limit = sliced ? SLICE : window + grace;
    // Where a wait is not sliced, this only sees to it that no runtime's `fetch` can hang.
    const relief = sliced ? (this.#endpoints.count > 1 ? RELIEF : RELIEF_ALONE) : limit + HANG;
    const headers = { ...this.#headers };
    if (call.body) headers['Content-Type'] = 'application/json';
    if (call.named) headers['Idempotency-Key'] = uuid();
    const init = { method: call.method, headers, body: call.body ? JSON.stringify(call.body) : null };

    // Ends every request that is still under way when the call is over.
    const end = new AbortController();
    const unfollow = follow(end, call.signal);
    try {
      const start = monotonic();
      const course = new Course(start, window);
      let older: Try | undefined;
      for (;;) {
        end.signal.throwIfAborted();
        const newer = this.#send(call.path, init, limit, end.signal);
        const outcome = await firstOf(newer, older, relief, end.signal);
        end.signal.throwIfAborted();
        if (outcome?.reply && !isPassing(outcome)) return outcome.reply;
        this.#endpoints.leave(newer.endpoint);
        const now = monotonic();
        if (!outcome && now - start < window + grace) {
          // It stands in line, as it should: the next request takes over from it.
          course.stood();
          older = newer;
          continue;
        }
        const wait = mayRepeat(call, outcome)
          ? course.setback(newer.sent, now, outcome?.broken ?? false, stayAway(outcome), Math.random())
          : undefined;
        if (wait !== undefined) await pause(wait, end.signal);
        else if (outcome?.reply) return outcome.reply;
        else throw outcome?.error ?? unanswered();
      }
    } finally {
      unfollow();
      end.abort();
    }
  }

  #send(path: string, init: Omit<FetchInit, 'signal'>, limit: number, end: AbortSignal): Try {
    const endpoint = this.#endpoints.current;
    const url = this.#endpoints.url(endpoint, path);
    return { endpoint, sent: monotonic(), outcome: exchange(this.#fetch, url, init, limit, end) };
  }
}

/**
 * What comes first: an answer to either of two requests for one place in line, the failure of the
 * newer one, or nothing until the newer one is to be relieved. The failure of the older one means
 * nothing, as the newer one stands in its place.
 */
async function firstOf(
  newer: Try,
  older: Try | undefined,
  relief: number,
  end: AbortSignal,
): Promise<Outcome | undefined> {
  const done = new AbortController();
  const unfollow = follow(done, end);
  const ways: Promise<Outcome | undefined>[] = [
    newer.outcome,
    pause(relief, done.signal).then(() => undefined),
  ];
  if (older) {
    const answer = older.outcome.then((old) => (old.reply && !isPassing(old) ? old : newer.outcome));
    ways.push(answer);
  }
  try {
    return await Promise.race(ways);
  } finally {
    unfollow();
    done.abort();
  }
}

/** Whether an answer, softened or not, says to come again. */
function isPassing({ error }: Outcome): boolean {
  return PASSING.includes(error?.status ?? 0);
}

/** Whether a repetition can do no harm. */
function mayRepeat({ once }: Call, outcome: Outcome | undefined): boolean {
  if (!once) return true;
  // These say that nothing was done; a proxy's 503 says nothing of what is behind it.
  if (outcome?.reply) return outcome.error?.code === 'no_leader' || outcome.error?.status === 429;
  return outcome?.error !== undefined && wasNeverSent(outcome.error);
}

/**
 * How many ms to stay away, as the server asked. A node without a leader says nothing about the next
 * node's: only 429 is about the caller.
 */
function stayAway(outcome: Outcome | undefined): number {
  return outcome?.error?.status === 429 ? (outcome.error.retryAfter ?? 0) : 0;
}
