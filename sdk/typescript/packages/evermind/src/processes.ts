import { readdirSync, readFileSync } from 'node:fs';

/** A process as Linux's /proc tells of it. */
export interface Process {
  readonly pid: number;
  readonly name: string;
  readonly parent: number;
  readonly session: number;
  /** `T` where it is stopped. */
  readonly state: string;
  /** Since when, in ticks since the boot: with `pid`, it names a process for good. */
  readonly since: number;
}

/** Whether there is a /proc to look into. */
export const canLook = process.platform === 'linux';

/** A living process; one that only waits to be buried does not live. */
export function look(pid: number | string): Process | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name is in parentheses and may hold anything. Behind it: state, parent, group, session, …
  const [open, close] = [stat.indexOf('('), stat.lastIndexOf(')')];
  const fields = stat.slice(close + 2).split(' ');
  const [state = 'X', parent, , session] = fields;
  if (state === 'Z' || state === 'X') return undefined;
  return {
    pid: Number(pid),
    name: stat.slice(open + 1, close),
    parent: Number(parent),
    session: Number(session),
    state,
    since: Number(fields[19]),
  };
}

/** The environment variable that all processes of a command have, with the marks of those around it. */
export const MARKS = 'EVERMIND_LOCK_RUNS';

/**
 * All that a command started and that lives: what is below it, and what has its mark in the
 * environment, wherever it went. What did neither keep its parent nor its environment is not found.
 */
export function family(command: Process | undefined, mark: string): Process[] {
  const all: Process[] = [];
  for (const pid of readdirSync('/proc')) {
    const found = /^\d+$/.test(pid) ? look(pid) : undefined;
    if (found && found.since >= (command?.since ?? 0)) all.push(found);
  }
  const members = new Set<number>();
  for (const { pid, since } of all) {
    if ((pid === command?.pid && since === command.since) || isMarked(pid, mark)) members.add(pid);
  }
  for (let count = -1; count !== members.size;) {
    count = members.size;
    for (const { pid, parent } of all) if (members.has(parent)) members.add(pid);
  }
  return all.filter(({ pid }) => members.has(pid));
}

function isMarked(pid: number, mark: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
  } catch {
    // Of another user, or gone.
    return false;
  }
}

/** Sends a signal to each. Gives those that may not be signalled: they run as another user. */
export function signalAll(processes: readonly Process[], signal: NodeJS.Signals): Process[] {
  return processes.filter(({ pid }) => {
    try {
      process.kill(pid, signal);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM';
    }
    return false;
  });
}

/** For people: `sleep (4711), sh (4712)`. */
export function named(processes: readonly Process[]): string {
  const shown = processes.slice(0, 5).map(({ name, pid }) => `${name} (${pid})`);
  if (processes.length > shown.length) shown.push(`${processes.length - shown.length} more`);
  return shown.join(', ');
}
