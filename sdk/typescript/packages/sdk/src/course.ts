/** How long a call may be in trouble before it is given up, in ms. */
export const TROUBLE_MAX = 30_000;
/** Ceilings of the pauses between two tries, in ms: the first, doubled each time, and the last. */
const BACKOFF_FIRST = 50;
const BACKOFF_MAX = 2_000;
/** A connection that lasted this many ms before it broke had been standing in line, not failing. */
const STANDING_MIN = 1_000;

/**
 * The course of one call: how often, how fast and how long to try again. All times are ms of the
 * monotonic clock.
 */
export class Course {
  /** Until when a broken connection may have been one that stood in line. */
  readonly #standingUntil: number;
  #troubleSince: number | undefined;
  #setbacks = 0;

  /** A call that starts at `start` and may stand in line for `window`. */
  constructor(start: number, window: number) {
    this.#standingUntil = start + window;
  }

  /** The call stood in line, as it should: no trouble so far. */
  stood(): void {
    this.#troubleSince = undefined;
    this.#setbacks = 0;
  }

  /** Nothing is heard of the call since `since`, and it should be. */
  doubt(since: number): void {
    this.#troubleSince ??= since;
  }

  /**
   * The try sent at `sent` came to nothing at `now`: the pause before the next, in ms, or
   * `undefined` to give up. `broken`: its connection broke or was refused, by a proxy too. `least`: how long the
   * server asked to stay away. `random`: uniform over [0, 1).
   */
  setback(sent: number, now: number, broken: boolean, least: number, random: number): number | undefined {
    const stood = broken && now - sent >= STANDING_MIN && now <= this.#standingUntil;
    if (stood) this.stood();
    this.#troubleSince ??= stood ? now : sent;
    const ceiling = Math.min(BACKOFF_FIRST * 2 ** this.#setbacks, BACKOFF_MAX);
    this.#setbacks += 1;
    // Full jitter: uniform between nothing and the ceiling.
    const pause = least + random * ceiling;
    return now + pause < this.#troubleSince + TROUBLE_MAX ? pause : undefined;
  }
}
