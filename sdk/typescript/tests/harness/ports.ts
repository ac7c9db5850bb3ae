import { createServer } from 'node:net';

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return address.port;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => {
      resolve(false);
    });
    server.listen(port, '127.0.0.1', () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

/**
 * A port for `evermind dev`, which uses 1 to 3 and 11 to 13 above it. Below the ports that systems
 * hand out by themselves, so that nobody takes one of them in between.
 */
export async function devPort(): Promise<number> {
  for (;;) {
    const port = 10_000 + 20 * Math.floor(Math.random() * 1_000);
    const used = [1, 2, 3, 11, 12, 13].map((offset) => isFree(port + offset));
    if ((await Promise.all(used)).every(Boolean)) return port;
  }
}
