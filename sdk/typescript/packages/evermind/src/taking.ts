import type { LockOptions } from '@evermind-sh/sdk';

import type { Arguments } from './arguments.js';

/** What to take, and how long to wait for it. */
export const TAKING = {
  lease: { type: 'string' },
  wait: { type: 'string' },
  'retry-attempts': { type: 'string' },
  'retry-delay': { type: 'string' },
  'retry-jitter': { type: 'string' },
  fifo: { type: 'boolean' },
  uuid: { type: 'string' },
} as const;

/** How long a lock is held unless it is extended, in ms. */
const LEASE = 10_000;

/** The request that the arguments make. */
export function taking(key: string, args: Arguments): LockOptions & { lease: number } {
  args.conflict('wait', ['retry-attempts', 'retry-delay', 'retry-jitter']);
  const window = args.time('wait');
  const wait =
    window === undefined
      ? {
          retryAttempts: args.number('retry-attempts'),
          retryDelay: args.time('retry-delay'),
          retryJitter: args.time('retry-jitter'),
        }
      : lasting(window);
  return {
    key,
    lease: args.time('lease') ?? LEASE,
    ...wait,
    fifo: args.flag('fifo'),
    uuid: args.text('uuid'),
  };
}

/**
 * A wait of `window` ms, never longer: one attempt per 500 ms, and longer steps past 500 s, because
 * there may be 1000 attempts at most.
 */
export function lasting(window: number): { retryAttempts: number; retryDelay: number; retryJitter: number } {
  if (window === 0) return { retryAttempts: 0, retryDelay: 0, retryJitter: 0 };
  const retryAttempts = Math.min(Math.max(Math.floor(window / 500), 1), 1_000);
  return { retryAttempts, retryDelay: Math.floor(window / retryAttempts), retryJitter: 0 };
}
