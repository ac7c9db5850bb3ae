/** The nodes that `evermind dev` starts. */
const OF_DEV = ['http://127.0.0.1:7601', 'http://127.0.0.1:7602', 'http://127.0.0.1:7603'];

/**
 * Where to go: the nodes of one cluster, and the one that answered last. Endpoints are counted on and
 * on, round and round: a higher number is a later choice.
 */
export class Endpoints {
  readonly #bases: readonly string[];
  #current: number;

  /** One address or several, as `http://host:port`, with a path if a proxy wants one. */
  constructor(endpoint: string | readonly string[] = OF_DEV) {
    this.#bases = (typeof endpoint === 'string' ? [endpoint] : endpoint).map(base);
    if (this.#bases.length === 0) throw new TypeError('no endpoint was given');
    // Many clients of one list must not all begin at its first node.
    this.#current = Math.floor(Math.random() * this.#bases.length);
  }

  /** Which endpoint the next call goes to. */
  get current(): number {
    return this.#current;
  }

  /** How many there are. */
  get count(): number {
    return this.#bases.length;
  }

  /** The address of a path there. */
  url(endpoint: number, path: string): string {
    return `${this.#bases[endpoint % this.#bases.length] ?? ''}${path}`;
  }

  /** This one answered: later calls go there, unless a later choice was made meanwhile. */
  stay(endpoint: number): void {
    this.#current = Math.max(this.#current, endpoint);
  }

  /** This one failed: later calls go to the next. The first that saw it fail moves them, once. */
  leave(endpoint: number): void {
    if (this.#current === endpoint) this.#current += 1;
  }

  /** Where a call goes that was at this one. */
  after(endpoint: number): number {
    return Math.max(endpoint + 1, this.#current);
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
