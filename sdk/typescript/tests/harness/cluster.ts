import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { Evermind, type EvermindOptions } from '@evermind-sh/sdk';

import { binary } from './binary.ts';
import { devPort } from './ports.ts';
import { until } from './until.ts';

/** What `evermind dev --json` prints. */
export interface Announcement {
  readonly endpoints: readonly string[];
  readonly apiKey: string;
  readonly licenceKey: string;
  readonly adminToken: string;
  readonly nodes: readonly { readonly id: number; readonly pid: number; readonly http: string }[];
}

/** A real cluster of three processes, by `evermind dev`. */
export class Cluster {
  readonly announcement: Announcement;
  readonly #dev: ChildProcess;
  readonly #gone: Promise<void>;

  private constructor(dev: ChildProcess, gone: Promise<void>, announcement: Announcement) {
    this.#dev = dev;
    this.#gone = gone;
    this.announcement = announcement;
  }

  /** Starts one; `flags` are further words for `evermind dev`. */
  static async start(...flags: string[]): Promise<Cluster> {
    for (let attempt = 1; ; attempt++) {
      const port = await devPort();
      const dev = spawn(binary(), ['dev', '--json', '--port', String(port), ...flags], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let stderr = '';
      dev.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
      const gone = new Promise<void>((resolve) =>
        dev.once('exit', () => {
          resolve();
        }),
      );
      const line = await Promise.race([
        new Promise<string>((resolve) => createInterface(dev.stdout).once('line', resolve)),
        gone.then(() => undefined),
      ]);
      if (line !== undefined) return new Cluster(dev, gone, JSON.parse(line) as Announcement);
      // Another test may have taken a port in between.
      if (attempt === 3 || !stderr.includes('cannot use port'))
        throw new Error(`evermind dev did not start:\n${stderr}`);
    }
  }

  get endpoints(): readonly string[] {
    return this.announcement.endpoints;
  }

  /** A client of all three nodes. */
  client(options: Partial<EvermindOptions> = {}): Evermind {
    return new Evermind({ apiKey: this.announcement.apiKey, endpoint: this.endpoints, ...options });
  }

  /** The node that leads. */
  async leader(): Promise<Announcement['nodes'][number]> {
    return until('some node leads', async () => {
      for (const node of this.announcement.nodes) {
        try {
          const status = await this.client({ endpoint: node.http }).cluster({
            signal: AbortSignal.timeout(500),
          });
          if (status.role === 'leader') return node;
        } catch {
          // It may be one that was killed.
        }
      }
      return undefined;
    });
  }

  /** Sends every node a signal. */
  signal(signal: NodeJS.Signals): void {
    for (const { pid } of this.announcement.nodes) {
      try {
        process.kill(pid, signal);
      } catch {
        // Gone.
      }
    }
  }

  /** Ends it. */
  async stop(): Promise<void> {
    // A stopped process does not hear of anything else.
    this.signal('SIGCONT');
    this.#dev.kill('SIGTERM');
    await this.#gone;
    // Whoever still holds the other ends must not hold this process.
    this.#dev.stdout?.destroy();
    this.#dev.stderr?.destroy();
  }
}
