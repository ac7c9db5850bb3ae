import { describe, expect, test } from 'vitest';

import { deadline } from '../../packages/sdk/src/clock.ts';
import { uuid } from '../../packages/sdk/src/uuid.ts';

describe('the deadline', () => {
  test('counts from before the request, less 1% of all that the cluster counted', () => {
    const sent = { monotonic: 1_000, wall: 9_000 };
    expect(deadline(sent, 0, 5_000)).toEqual({ monotonic: 5_950, wall: 13_950 });
    // A minute in line drifts as much as the lease does.
    expect(deadline(sent, 60_000, 5_000)).toEqual({ monotonic: 65_350, wall: 73_350 });
    expect(deadline(sent, 0, 0)).toEqual(sent);
  });
});

describe('a uuid', () => {
  test('is version 7: it begins with the time, and no two are the same', () => {
    const before = Date.now();
    const uuids = Array.from({ length: 1_000 }, uuid);
    const after = Date.now();
    expect(new Set(uuids).size).toBe(1_000);
    for (const text of uuids) {
      expect(text).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      const ms = Number.parseInt(text.slice(0, 13).replace('-', ''), 16);
      expect(ms).toBeGreaterThanOrEqual(before);
      expect(ms).toBeLessThanOrEqual(after);
    }
  });
});
