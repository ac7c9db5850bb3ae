#!/usr/bin/env node
import packageJson from '../package.json' with { type: 'json' };
import { Failure } from './exit.js';
import { HELP } from './help.js';
import * as keys from './keys.js';
import * as lock from './lock.js';
import { tolerate, write } from './output.js';
import { run } from './run.js';
import { watch, WATCH } from './watch.js';

type Command = (words: readonly string[], help: string) => Promise<void>;

const COMMANDS: Record<string, Command> = {
  'keys create': keys.create,
  'keys delete': keys.remove,
  'lock acquire': lock.acquire,
  'lock extend': lock.extend,
  'lock release': lock.release,
  'lock run': run,
};

async function main(words: readonly string[]): Promise<void> {
  const [first = '', second = ''] = words;
  const name = `${first} ${second}`;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  // What stands after -- is another program's.
  const own = words.includes('--') ? words.slice(0, words.indexOf('--')) : words;
  if (own.includes('--help') || own.includes('-h') || first === 'help') {
    const title = command ? `evermind ${name}` : 'evermind';
    return write(`${HELP[title] ?? ''}\n`);
  }
  if (first === '--version' || first === '-V') return write(`evermind ${packageJson.version}\n`);
  if (!command) {
    const what =
      words.length === 0 ? 'no command was given' : `there is no command ${JSON.stringify(name.trim())}`;
    throw Failure.usage(what, 'see evermind --help');
  }
  return command(words.slice(2), `evermind ${name}`);
}

const [first, mark = ''] = process.argv.slice(2);
tolerate();
if (first === WATCH) void watch(mark);
else {
  main(process.argv.slice(2)).catch((error: unknown) => {
    Failure.of(error).report();
  });
}
