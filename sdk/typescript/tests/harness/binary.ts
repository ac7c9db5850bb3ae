import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../../../../', import.meta.url);

/** The server: EVERMIND_BIN, else what cargo built of this checkout. */
export function binary(): string {
  const named = process.env['EVERMIND_BIN'];
  const target = process.env['CARGO_TARGET_DIR'];
  const places = named
    ? [named]
    : [target === undefined ? new URL('target/', ROOT) : new URL(`file://${target}/`)].flatMap((directory) =>
        ['release', 'debug'].map((profile) => fileURLToPath(new URL(`${profile}/evermind`, directory))),
      );
  const found = places.find((place) => existsSync(place));
  if (found === undefined) {
    throw new Error(
      `no server to test against: ${places.join(' and ')} ${places.length > 1 ? 'are' : 'is'} not there; ` +
        'build one with `cargo build`, or name one in EVERMIND_BIN',
    );
  }
  return found;
}
