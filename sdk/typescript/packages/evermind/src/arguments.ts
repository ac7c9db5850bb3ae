import { parseArgs, type ParseArgsConfig } from 'node:util';

import * as duration from './duration.js';
import { Failure } from './exit.js';

type Options = NonNullable<ParseArgsConfig['options']>;

/** The words of one command, told apart. Every mistake in them is a {@link Failure} of usage. */
export class Arguments {
  readonly #values: Record<string, string | boolean | undefined>;
  readonly #positionals: string[];
  readonly #help: string;

  /** `help`: what `--help` of this command is typed as. */
  constructor(words: readonly string[], options: Options, help: string) {
    this.#help = help;
    try {
      const { values, positionals } = parseArgs({ args: [...words], options, allowPositionals: true });
      this.#values = values as Record<string, string | boolean | undefined>;
      this.#positionals = positionals;
    } catch (error) {
      // Its second sentence is about positionals, and misleads.
      throw this.#wrong((error as Error).message.split('. ')[0] ?? '');
    }
  }

  /** The positional words, which must be these. */
  positionals(...names: string[]): string[] {
    const [missing] = names.slice(this.#positionals.length);
    if (missing !== undefined) throw this.#wrong(`${missing} is missing`);
    const [surplus] = this.#positionals.slice(names.length);
    if (surplus !== undefined) throw this.#wrong(`unexpected argument ${JSON.stringify(surplus)}`);
    return this.#positionals;
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  required(name: string): string {
    const value = this.text(name);
    if (value === undefined) throw this.#wrong(`--${name} is missing`);
    return value;
  }

  /** A length of time, in ms. */
  time(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    try {
      return duration.parse(text);
    } catch (error) {
      throw this.#wrong(`--${name} ${JSON.stringify(text)}: ${(error as Error).message}`);
    }
  }

  number(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const number = Number(text);
    if (!/^\d+$/.test(text) || number >= 2 ** 32) {
      throw this.#wrong(`--${name} ${JSON.stringify(text)}: a whole number is wanted`);
    }
    return number;
  }

  /** @throws if any of the others is given beside `name`. */
  conflict(name: string, others: readonly string[]): void {
    const other = this.has(name) ? others.find((option) => this.has(option)) : undefined;
    if (other !== undefined) throw this.#wrong(`--${name} cannot be used with --${other}`);
  }

  #wrong(message: string): Failure {
    return Failure.usage(message, `see ${this.#help} --help`);
  }
}
