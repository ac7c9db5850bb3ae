/** The nodes that `evermind dev` starts. */
const OF_DEV = ['http://127.0.0.1:7601', 'http://127.0.0.1:7602', 'http://127.0.0.1:7603'];

/** Where to go: the nodes of one cluster, and the one that answered last. */
export class Endpoints {
  readonly #bases: readonly string[];
  #current = 0;

  /** One address or several, as `http://host:port`, with a path if a proxy wants one. */
  constructor(endpoint: string | readonly string[] = OF_DEV) {
    this.#bases = (typeof endpoint === 'string' ? [endpoint] : endpoint).map(base);
    if (this.#bases.length === 0) throw new TypeError('no endpoint was given');
  }

  /** Which endpoint the next try goes to; to be handed to {@link Endpoints.leave}. */
  get current(): number {
    return this.#current;
  }

  /** How many there are. */
  get count(): number {
    return this.#bases.length;
  }

  /** The address of a path there. */
  url(current: number, path: string): string {
    return `${this.#bases[current % this.#bases.length] ?? ''}${path}`;
  }

  /** Everyone goes on from `current` to the next; whoever saw the failure first moves them, once. */
  leave(current: number): void {
    if (this.#current === current) this.#current += 1;
  }
}

function base(text: string): string {
  const url = parse(text.trim());
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    // Whoever wrote a password there does not want it in a log.
    const shown = JSON.stringify(text.replace(/^(\s*\w+:\/\/)?.*@/s, '$1…@'));
    throw new TypeError(`${shown} is not an endpoint: it is written http://host:port`);
  }
  return url.origin + url.pathname.replace(/\/+$/, '');
}

/** `URL.canParse` is not everywhere yet. */
function parse(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}
