import { buffer } from 'node:stream/consumers';

import {
  type ApiKeyOptions,
  createApiKey,
  deleteApiKey,
  EvermindError,
  OutcomeUnknownError,
} from '@evermind-sh/sdk';

import { Arguments } from './arguments.js';
import { endpoints, usable } from './connection.js';
import { EXIT, Failure } from './exit.js';
import { write, writeJson } from './output.js';
import { fault, type SecretKind } from './secret.js';

/** Both spellings are in use. */
const OPTIONS = {
  licenceKey: { type: 'string', short: 'l' },
  'licence-key': { type: 'string' },
  url: { type: 'string' },
  json: { type: 'boolean' },
} as const;

/** `evermind keys create`: prints a new API key, and nothing else, on stdout. */
export async function create(words: readonly string[], help: string): Promise<void> {
  const args = new Arguments(words, OPTIONS, help);
  args.positionals();
  const options = licence(args);
  await telling(args, async () => {
    const created = await usable(() => createApiKey(options));
    process.stderr.write(
      `made ${created.id}; the key itself is shown this once: keep it now\n` +
        'hint: `evermind keys delete -` deletes the key that it reads from stdin\n',
    );
    await (args.flag('json') ? writeJson(created) : write(`${created.apiKey}\n`));
  }).catch((error: unknown) => {
    if (!OutcomeUnknownError.is(error)) throw error;
    const hint = 'if it was, nobody has its secret: ask the operator to look, and make another';
    throw new Failure(error.message, EXIT.unavailable, hint, { cause: error });
  });
}

/** `evermind keys delete API_KEY`: every node refuses it from then on. */
export async function remove(words: readonly string[], help: string): Promise<void> {
  const args = new Arguments(words, OPTIONS, help);
  const [given = ''] = args.positionals('API_KEY');
  const options = licence(args);
  const apiKey = sound('apiKey', given === '-' ? await fromStdin() : given.trim());
  await telling(args, async () => {
    await usable(() => deleteApiKey({ ...options, apiKey }));
    await (args.flag('json')
      ? writeJson({ deleted: true })
      : write('deleted: every node refuses this API key now\n'));
  });
}

function licence(args: Arguments): ApiKeyOptions {
  const given =
    args.text('licenceKey') ?? args.text('licence-key') ?? process.env['EVERMIND_LICENCE_KEY'] ?? '';
  const licenceKey = given.trim();
  if (licenceKey === '') {
    throw Failure.usage(
      'no licence key was given',
      'set EVERMIND_LICENCE_KEY, or give --licenceKey; the operator of the cluster issues them, `evermind dev` prints one',
    );
  }
  return { licenceKey: sound('licenceKey', licenceKey), endpoint: endpoints(args) };
}

/** Refuses a key with a slip of the finger in it before anybody is asked. */
function sound(kind: SecretKind, key: string): string {
  const found = fault(kind, key);
  if (found) throw Failure.usage(found.message, found.hint);
  return key;
}

/** A key that others must not see on a command line. */
async function fromStdin(): Promise<string> {
  if (process.stdin.isTTY) {
    process.stderr.write('reading the API key from stdin; end it with Enter and Ctrl-D\n');
  }
  const key = (await buffer(process.stdin)).toString('utf8').trim();
  if (key === '') {
    const hint = 'for example: evermind keys delete - < file-with-the-key';
    throw Failure.usage('there is no API key on stdin', hint);
  }
  return key;
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
