import { Evermind } from '@evermind-sh/sdk';

import type { Arguments } from './arguments.js';
import { EXIT, Failure } from './exit.js';

/** How the command finds the cluster. */
export const CONNECTION = { url: { type: 'string' }, 'api-key': { type: 'string' } } as const;

/** The nodes to talk to; undefined leaves it to the client. */
export function endpoints(args: Arguments): string[] | undefined {
  const text = args.text('url') ?? process.env['EVERMIND_BASE_URL'];
  const urls = text?.split(',').filter((url) => url.trim() !== '');
  if (urls?.length === 0) {
    throw Failure.usage('no endpoint was given', 'give one with --url or EVERMIND_BASE_URL');
  }
  return urls;
}

/** A client of the cluster that the arguments and the environment name. */
export function client(args: Arguments): Evermind {
  const apiKey = (args.text('api-key') ?? process.env['EVERMIND_API_KEY'] ?? '').trim();
  if (apiKey === '') {
    throw Failure.usage(
      'no API key was given',
      'set EVERMIND_API_KEY, or give --api-key; `evermind keys create` makes one, `evermind dev` prints one',
    );
  }
  const endpoint = endpoints(args);
  try {
    return new Evermind({ apiKey, endpoint });
  } catch (error) {
    throw unusable(error);
  }
}

/** What `make` makes, unless the client has no use for what it was given. */
export async function usable<T>(make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    throw unusable(error);
  }
}

function unusable(error: unknown): unknown {
  if (!(error instanceof TypeError)) return error;
  return new Failure(error.message, EXIT.usage, 'for example --url http://127.0.0.1:7601');
}
