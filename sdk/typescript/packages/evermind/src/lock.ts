import { EvermindError } from '@evermind-sh/sdk';

import { Arguments } from './arguments.js';
import { client, CONNECTION } from './connection.js';
import * as duration from './duration.js';
import { told, write, writeJson } from './output.js';
import { taking, TAKING } from './taking.js';

/** What every one of these commands has. */
const COMMON = { ...CONNECTION, json: { type: 'boolean' } } as const;

/** `evermind lock acquire KEY`: takes a lock, standing in line for it if it is held. */
export function acquire(words: readonly string[], help: string): Promise<void> {
  const args = new Arguments(words, { ...TAKING, ...COMMON }, help);
  const [key = ''] = args.positionals('KEY');
  const request = taking(key, args);
  const evermind = client(args);
  return answer(args, async () => {
    const grant = await told(key, evermind.acquire(request));
    const lines = [
      `acquired ${key}`,
      `uuid   ${grant.config.uuid}`,
      `token  ${grant.fencingToken}`,
      `lease  ${duration.show(grant.expiresIn)} left`,
    ];
    return { body: grant, text: `${lines.join('\n')}\n` };
  });
}

/** `evermind lock extend KEY --uuid UUID --by TIME`: moves the end of a lease. */
export function extend(words: readonly string[], help: string): Promise<void> {
  const options = { ...COMMON, uuid: { type: 'string' }, by: { type: 'string' } } as const;
  const args = new Arguments(words, options, help);
  const [key = ''] = args.positionals('KEY');
  const uuid = args.required('uuid');
  args.required('by');
  const extendBy = args.time('by') ?? 0;
  const evermind = client(args);
  return answer(args, async () => {
    const body = await evermind.extend({ key, uuid, extendBy });
    const lines = [
      `extended ${key}`,
      `token  ${body.fencingToken}`,
      `lease  ${duration.show(body.expiresIn)} left`,
    ];
    return { body, text: `${lines.join('\n')}\n` };
  });
}

/** `evermind lock release KEY --uuid UUID`: gives a lock, or a place in line, back. */
export function release(words: readonly string[], help: string): Promise<void> {
  const args = new Arguments(words, { ...COMMON, uuid: { type: 'string' } }, help);
  const [key = ''] = args.positionals('KEY');
  const uuid = args.required('uuid');
  const evermind = client(args);
  return answer(args, async () => ({
    body: await evermind.release({ key, uuid }),
    text: `released ${key}\n`,
  }));
}

/** Prints the answer, for people or as it came; a failure that came as an answer too. */
async function answer(args: Arguments, ask: () => Promise<{ body: object; text: string }>): Promise<void> {
  const json = args.flag('json');
  try {
    const { body, text } = await ask();
    await (json ? writeJson(body) : write(text));
  } catch (error) {
    if (json && EvermindError.is(error) && error.body !== undefined) await writeJson(error.body);
    throw error;
  }
}
