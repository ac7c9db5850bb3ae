import { type ApiKeyOptions, createApiKey, deleteApiKey, EvermindError } from '@evermind-sh/sdk';

import { Arguments } from './arguments.js';
import { endpoints, usable } from './connection.js';
import { Failure } from './exit.js';
import { write, writeJson } from './output.js';

/** Both spellings are in use. */
const OPTIONS = {
  licenceKey: { type: 'string', short: 'l' },
  'licence-key': { type: 'string' },
  url: { type: 'string' },
  json: { type: 'boolean' },
} as const;

/** `evermind keys create`: prints a new API key. */
export async function create(words: readonly string[], help: string): Promise<void> {
  const args = new Arguments(words, OPTIONS, help);
  args.positionals();
  const options = licence(args);
  await telling(args, async () => {
    const created = await usable(() => createApiKey(options));
    await (args.flag('json') ? writeJson(created) : write(`${created.apiKey}\n`));
  });
}

/** `evermind keys delete API_KEY`: deletes it, at once and on every node. */
export async function remove(words: readonly string[], help: string): Promise<void> {
  const args = new Arguments(words, OPTIONS, help);
  const [apiKey = ''] = args.positionals('API_KEY');
  const options = licence(args);
  await telling(args, async () => {
    await usable(() => deleteApiKey({ ...options, apiKey }));
    // The server has nothing to add; the key itself is a secret.
    if (!args.flag('json')) await write('deleted\n');
  });
}

function licence(args: Arguments): ApiKeyOptions {
  const given =
    args.text('licenceKey') ?? args.text('licence-key') ?? process.env['EVERMIND_LICENCE_KEY'] ?? '';
  const licenceKey = given.trim();
  if (licenceKey === '') {
    throw Failure.usage(
      'no licence key was given',
      'set EVERMIND_LICENCE_KEY, or give --licence-key; the operator of the cluster issues them',
    );
  }
  return { licenceKey, endpoint: endpoints(args) };
}

/** With --json, a failure that came as an answer is printed as it came. */
async function telling(args: Arguments, command: () => Promise<void>): Promise<void> {
  try {
    await command();
  } catch (error) {
    if (args.flag('json') && EvermindError.is(error) && error.body !== undefined) await writeJson(error.body);
    throw error;
  }
}
