import { describe, expect, test } from 'vitest';

import { Course, TROUBLE_MAX } from '../../packages/sdk/src/course.ts';

describe('the course of a call', () => {
  test('pauses grow to a ceiling, and end after thirty seconds', () => {
    const course = new Course(0, 0);
    const pauses: number[] = [];
    let now = 0;
    for (;;) {
      const pause = course.setback(now, now, true, 0, 1);
      if (pause === undefined) break;
      pauses.push(pause);
      now += pause;
    }
    expect(pauses.slice(0, 7)).toEqual([50, 100, 200, 400, 800, 1_600, 2_000]);
    expect(now).toBeLessThan(TROUBLE_MAX);
    expect(now).toBeGreaterThan(27_000);
  });

  test('jitter is full', () => {
    const pause = (random: number) => new Course(0, 0).setback(0, 0, true, 0, random);
    expect(pause(0)).toBe(0);
    expect(pause(0.5)).toBe(25);
  });

  test('standing in line is not trouble', () => {
    const course = new Course(0, 300_000);
    // The node died after five minutes less a second of waiting; thirty seconds count from there.
    const died = 299_000;
    expect(course.setback(0, died, true, 0, 0)).toBe(0);
    expect(course.setback(died, died + 29_000, false, 0, 0)).toBe(0);
    expect(course.setback(died, died + 31_000, false, 0, 0)).toBeUndefined();
  });

  test('a connection that broke at once, or after the window, did not stand in line', () => {
    expect(new Course(0, 60_000).setback(0, 31_000, false, 0, 0)).toBeUndefined();
    expect(new Course(0, 10_000).setback(0, 31_000, true, 0, 0)).toBeUndefined();
    const course = new Course(0, 60_000);
    course.setback(0, 500, true, 0, 0);
    expect(course.setback(29_000, 30_001, true, 0, 0)).toBe(0);
    // It stood for half a minute, and broke when the window was over: that began no new trouble.
    expect(course.setback(30_001, 60_001, true, 0, 0)).toBeUndefined();
  });

  test('waits as long as it is told, but not past the end', () => {
    expect(new Course(0, 0).setback(0, 0, false, 3_000, 0)).toBe(3_000);
    expect(new Course(0, 0).setback(0, 0, false, 31_000, 0)).toBeUndefined();
  });
});
