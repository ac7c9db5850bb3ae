/**
 * A moment on both clocks of this machine, in ms. The monotonic clock cannot be set, but stands
 * still on some systems while the machine sleeps (Linux); the wall clock goes on, but can be set.
 */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** Given up for the drift between two machines' clock rates: 1% (docs/time.md). */
const DRIFT = 0.01;

/** Monotonic time in ms. */
export function monotonic(): number {
  return performance.now();
}

/** Now. */
export function moment(): Moment {
  return { monotonic: monotonic(), wall: Date.now() };
}

/**
 * Until when a grant may be relied on: the moment before its request was sent, plus what the cluster
 * counted from there to the grant (`waited`) and from the grant on (`expiresIn`), less 1% of both,
 * because the cluster's clock may run that much faster than ours over the whole of that span.
 */
export function deadline(sent: Moment, waited: number, expiresIn: number): Moment {
  const span = (waited + expiresIn) * (1 - DRIFT);
  return { monotonic: sent.monotonic + span, wall: sent.wall + span };
}

/**
 * How many ms are left until `end` by the clock that gets there first; negative if one has passed it.
 * Where only the wall clock has, it was set, or the machine slept: the cluster alone knows.
 */
export function left(end: Moment): number {
  return Math.min(end.monotonic - monotonic(), end.wall - Date.now());
}
