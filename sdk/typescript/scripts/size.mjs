// How much the client adds to a page: the whole of it, minified and gzipped.
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const BYTES_MAX = 7 * 1024;

const { outputFiles } = await build({
  entryPoints: ['packages/sdk/src/index.ts'],
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  write: false,
});
const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`@evermind-sh/sdk: ${bytes} bytes minified and gzipped, of at most ${BYTES_MAX}`);
if (bytes >= BYTES_MAX) process.exitCode = 1;
