import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CHROMIUM = '/usr/bin/chromium';

/** Opens a page in a headless browser with a new profile. */
export function browse(url: string): { close: () => Promise<void>; gone: Promise<string> } {
  if (!existsSync(CHROMIUM)) {
    throw new Error('Chromium is not installed; to install it: apt-get install chromium');
  }
  const profile = mkdtempSync(join(tmpdir(), 'evermind-chromium-'));
  // Root has no sandbox; the rest keeps it from calling home.
  const flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--remote-debugging-port=0',
    `--user-data-dir=${profile}`,
    url,
  ];
  // In a group of its own: it starts many processes.
  const child = spawn(CHROMIUM, flags, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const gone = new Promise<string>((resolve) => {
    child.once('close', () => {
      resolve(stderr);
    });
  });
  const close = async () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    await gone;
    rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
  };
  return { close, gone };
}
