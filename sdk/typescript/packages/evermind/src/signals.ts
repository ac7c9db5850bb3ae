import { constants } from 'node:os';

/** The signals that are passed on to the command: all that end a program and can be caught. */
const NAMES = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGTERM',
  'SIGSTKFLT',
  'SIGXCPU',
  'SIGXFSZ',
  'SIGVTALRM',
  'SIGPROF',
  'SIGIO',
  'SIGPWR',
  'SIGSYS',
  'SIGWINCH',
] as const;

/** Those of them that this system has. */
export const PASSED: readonly NodeJS.Signals[] = NAMES.filter((name) => name in constants.signals);

/** Signals that leave a core file, which is not this program's to write. */
const CORES: readonly string[] = [
  'SIGQUIT',
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGSEGV',
  'SIGXCPU',
  'SIGXFSZ',
  'SIGSYS',
];

/** What a shell makes of an end by this signal. */
export function exitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/**
 * Ends this process as the signal does: a script or a loop around it ends with a Ctrl-C only if the
 * shell sees that its command died of it.
 */
export function dieOf(signal: NodeJS.Signals): void {
  process.exitCode = exitCode(signal);
  if (CORES.includes(signal)) return;
  restore(signal);
  process.kill(process.pid, signal);
}

/** Has a signal do again what it does by default, also where Node ignores it. */
export function restore(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  if (signal === 'SIGKILL') return;
  const nothing = (): void => undefined;
  process.on(signal, nothing);
  process.off(signal, nothing);
}

/**
 * The signals that were ignored when this began and have to stay so. Node makes all of them default
 * before any program runs, so only `nohup` can be told: shells name in `_` what they start.
 */
export function ignoredAtStart(): NodeJS.Signals[] {
  return /(^|\/)nohup$/.test(process.env['_'] ?? '') ? ['SIGHUP'] : [];
}
