import { monotonic } from './clock.js';
import { Course } from './course.js';
import { Endpoints } from './endpoints.js';
import type { EvermindError } from './errors.js';
import {
  type Fetch,
  type FetchInit,
  type Outcome,
  type Reply,
  exchange,
  unanswered,
  wasNeverSent,
} from './exchange.js';
import { places } from './places.js';
import { follow, later, pause, throwIfAborted } from './timers.js';
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
/** As often it is at least where a proxy cuts waiting requests earlier, in ms. */
const RELIEF_MIN = 1_000;
/**
 * How long the first node may be silent before a second is asked the same, in ms: one that is frozen
 * must cost less than a third of a lease. Doubled for each further one.
 */
const HEDGE = 1_000;
/** How long after it was stopped a request may go on pretending to be under way, in ms. */
const HANG = 1_000;

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
  /** How long the first node may be silent before the next is asked the same, in ms. */
  readonly hedge?: number;
  /** Whether to repeat nothing that may have been carried out. */
  readonly once?: boolean;
  readonly signal?: AbortSignal | null | undefined;
  /** Is told what went wrong with a try, although the call goes on. */
  readonly onTrouble?: (error: EvermindError) => void;
}

/** One request under way. */
interface Try {
  readonly endpoint: number;
  /** ms of the monotonic clock. */
  readonly sent: number;
  readonly outcome: Promise<Outcome>;
  /** Ends it. */
  readonly stop: () => void;
}

/** What came first of the tries under way, and of which. */
interface First {
  readonly outcome: Outcome;
  readonly by: Try;
}

/** Sends calls to the nodes of one cluster until one of them answers. */
export class Transport {
  readonly #endpoints: Endpoints;
  readonly #headers: Record<string, string>;
  readonly #fetch: Fetch | undefined;

  /** @throws TypeError for an endpoint or a `fetch` that cannot be used. */
  constructor(
    endpoint: string | readonly string[] | undefined,
    headers: Record<string, string>,
    fetch: Fetch | undefined,
  ) {
    this.#endpoints = new Endpoints(endpoint ?? undefined);
    if (fetch != null && typeof fetch !== 'function') throw new TypeError('fetch is not a function');
    this.#headers = headers;
    this.#fetch = fetch ?? undefined;
  }

  /**
   * Sends a call until a node answers it, round the endpoints: again after network failures, 429,
   * 503, 504 and what a proxy says of a node that it cannot reach, for at most 30 s of trouble. A node
   * that is silent for a second is not waited for: the next is asked the same, and the first answer
   * counts. A long wait goes in slices, each the same request under the same `Idempotency-Key`: the
   * server takes it for the one that stands in line already, leaves the terms of the wait as they are
   * (its window, its cost, its place), and answers both.
   *
   * @throws the signal's reason once it is aborted; {@link UnavailableError} where no node answered.
   */
  async call(call: Call): Promise<Reply> {
    throwIfAborted(call.signal);
    if (!this.#fetch && typeof globalThis.fetch !== 'function') {
      throw new TypeError('this runtime has no global fetch: give the client one, as its option `fetch`');
    }
    // Ends every request that is still under way when the call is over.
    const end = new AbortController();
    const unfollow = follow(end, call.signal);
    // What only looks or extends never waits for a place.
    const leave = call.window ? await places.take(end.signal) : undefined;
    try {
      throwIfAborted(end.signal);
      return await this.#call(call, end.signal);
    } finally {
      leave?.();
      unfollow();
      end.abort();
    }
  }

  async #call(call: Call, end: AbortSignal): Promise<Reply> {
    const { window = 0, grace = GRACE, hedge = HEDGE } = call;
    const limit = Math.min(window + grace, SLICE);
    const headers = { ...this.#headers };
    if (call.body) headers['Content-Type'] = 'application/json';
    if (call.named) headers['Idempotency-Key'] = uuid();
    const init = { method: call.method, headers, body: call.body ? JSON.stringify(call.body) : null };

    const start = monotonic();
    const course = new Course(start, window);
    const several = this.#endpoints.count > 1;
    // Behind one endpoint there may be several nodes: another connection may reach another.
    const hedged = !call.once && (several || call.hedge !== undefined);
    let relief = several ? RELIEF : RELIEF_ALONE;
    let endpoint = this.#endpoints.current;
    let older: Try | undefined;
    for (let hedges = 0; ;) {
      throwIfAborted(end);
      const newer = this.#send(endpoint, call.path, init, limit, end);
      // Beyond its limit, this only sees to it that no runtime's `fetch` can hang.
      let patience = limit + HANG;
      if (!call.once && window + grace > SLICE) patience = relief;
      if (hedged && (hedges === 0 || monotonic() - start >= window)) {
        patience = Math.min(patience, hedge * 2 ** hedges);
      }
      const first = await firstOf(newer, older, patience, end);
      throwIfAborted(end);
      const outcome = first?.outcome;
      if (first && outcome?.reply && !isPassing(outcome)) {
        // What is not of this API is the caller's to hear, but the next call had better go elsewhere.
        if (outcome.reply.foreign) this.#endpoints.leave(first.by.endpoint);
        else this.#endpoints.stay(first.by.endpoint);
        return outcome.reply;
      }
      const now = monotonic();
      if (outcome?.error) call.onTrouble?.(outcome.error);
      endpoint = this.#endpoints.after(newer.endpoint);
      if (!outcome && now - start < window + grace) {
        // It stands in line, as it should, or its node is silent: the next takes over from it.
        if (now - start < window) course.stood();
        else {
          course.doubt(start + window);
          call.onTrouble?.(unanswered());
        }
        hedges += 1;
        // Not before the newest one stands in line.
        if (older) later(HANG, older.stop);
        older = newer;
        continue;
      }
      this.#endpoints.leave(newer.endpoint);
      endpoint = this.#endpoints.after(newer.endpoint);
      const cut = outcome?.reply?.foreign === true;
      // A proxy that cuts what stands in line will do so again: the next request is relieved before.
      if (cut && now - start < window)
        relief = Math.max(RELIEF_MIN, Math.min(relief, (now - newer.sent) * 0.8));
      const broken = cut || (outcome?.broken ?? false);
      const wait = mayRepeat(call, outcome)
        ? course.setback(newer.sent, now, broken, stayAway(outcome), Math.random())
        : undefined;
      if (wait !== undefined) await pause(wait, end);
      else if (outcome?.reply) return outcome.reply;
      else throw outcome?.error ?? unanswered();
    }
  }

  #send(
    endpoint: number,
    path: string,
    init: Omit<FetchInit, 'signal'>,
    limit: number,
    end: AbortSignal,
  ): Try {
    const url = this.#endpoints.url(endpoint, path);
    const own = new AbortController();
    const unfollow = follow(own, end);
    const outcome = exchange(this.#fetch, url, init, limit, own.signal).finally(unfollow);
    return {
      endpoint,
      sent: monotonic(),
      outcome,
      stop: () => {
        own.abort();
      },
    };
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
): Promise<First | undefined> {
  const done = new AbortController();
  const unfollow = follow(done, end);
  const late = newer.outcome.then((outcome) => ({ outcome, by: newer }));
  const ways: Promise<First | undefined>[] = [late, pause(relief, done.signal).then(() => undefined)];
  if (older) {
    const answer = older.outcome.then((outcome) =>
      outcome.reply && !isPassing(outcome) ? { outcome, by: older } : late,
    );
    ways.push(answer);
  }
  try {
    return await Promise.race(ways);
  } finally {
    unfollow();
    done.abort();
  }
}

/**
 * Whether an answer, softened or not, says to come again: the API's 429, 503 and 504, and any failure
 * of a proxy that speaks for a node it cannot reach, or did not hear from.
 */
function isPassing({ reply, error }: Outcome): boolean {
  const status = error?.status ?? 0;
  if (reply?.foreign && error?.code !== 'redirected')
    return status >= 500 || status === 429 || status === 408;
  return [429, 503, 504].includes(status);
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
