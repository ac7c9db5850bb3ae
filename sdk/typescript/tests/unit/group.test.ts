import { describe, expect, test } from 'vitest';

import { Group } from '../../packages/evermind/src/group.ts';

describe('a command', () => {
  test('with arguments that no system takes cannot be run', async () => {
    // Node throws these at once, where it tells of others by an event.
    for (const word of ['x'.repeat(4_000_000), 'a\0b']) {
      await expect(Group.start(['true', word], process.env, 'mark')).rejects.toMatchObject({
        code: 126,
        message: expect.stringMatching(/^cannot run true: /) as string,
      });
    }
  });
});
