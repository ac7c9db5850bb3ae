/** Writes data to stdout and waits until it is out. A reader that has gone away (`| head`) ends the command. */
export function write(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error) reject(new Error(`cannot write to stdout: ${error.message}`));
      else resolve();
    });
  });
}

/** Has a stream that cannot be written (its reader is gone, its disk is full) end nothing. */
export function tolerate(): void {
  for (const stream of [process.stderr, process.stdout]) stream.on('error', () => undefined);
}

/** Who waits for a lock as long as this (ms) is told so. */
const TELL_AFTER = 2_000;

/** Waits for a lock, and says so where that takes long. */
export async function told<T>(key: string, acquired: Promise<T>): Promise<T> {
  const timer = setTimeout(() => {
    process.stderr.write(`evermind: waiting for ${key}: it is held, or no node can grant it yet\n`);
  }, TELL_AFTER);
  try {
    return await acquired;
  } finally {
    clearTimeout(timer);
  }
}

/** Writes a JSON text as the server wrote it: one line. */
export function writeJson(value: unknown): Promise<void> {
  return write(`${typeof value === 'string' ? value.trimEnd() : JSON.stringify(value)}\n`);
}
