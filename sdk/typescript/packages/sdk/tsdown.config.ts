import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: 'src/index.ts',
  format: ['esm', 'cjs'],
  // Node, Deno, Bun, browsers and edge runtimes: nothing of any of them beyond fetch and Web Crypto.
  platform: 'neutral',
  target: 'es2022',
  fixedExtension: false,
  dts: true,
  // Of `Lock`: whoever compiles against it may not have asked for this library.
  banner: { dts: '/// <reference lib="esnext.disposable" />' },
  sourcemap: true,
});
