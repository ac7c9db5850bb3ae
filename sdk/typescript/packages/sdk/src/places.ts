import { onAbort } from './timers.js';

/**
 * How many calls of this process stand in line at once. Each has two or three requests under way, and
 * where a runtime has a fixed number of them (Bun: 256), the rest is for extensions and all else.
 */
const PLACES = 'Bun' in globalThis ? 80 : 1_000;

/** A bound on how many do something at once; the others wait for it in the order of their coming. */
export class Places {
  #free: number;
  readonly #line = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves when there is a place, or `signal` is aborted. Returns how to leave it, once. */
  async take(signal: AbortSignal): Promise<() => void> {
    if (this.#free === 0 && !signal.aborted) {
      // A place that becomes free goes to the next from hand to hand.
      const handed = await new Promise<boolean>((resolve) => {
        const take = () => {
          unlisten();
          resolve(true);
        };
        const unlisten = onAbort(signal, () => {
          this.#line.delete(take);
          resolve(false);
        });
        this.#line.add(take);
      });
      return handed ? this.#leave : () => undefined;
    }
    if (signal.aborted) return () => undefined;
    this.#free -= 1;
    return this.#leave;
  }

  readonly #leave = (): void => {
    const [next] = this.#line;
    if (next) {
      this.#line.delete(next);
      next();
    } else this.#free += 1;
  };
}

/** Of all clients of this process. */
export const places = new Places(PLACES);
