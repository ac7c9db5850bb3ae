/** What `setTimeout` returns differs: Node's object can let the process end before it is due. */
interface Timer {
  unref?: () => void;
}

/** Runs `task` after `ms`, and does not keep the process alive for it. Returns how to call it off. */
export function later(ms: number, task: () => void): () => void {
  const timer = setTimeout(task, ms);
  (timer as unknown as Timer).unref?.();
  return () => {
    clearTimeout(timer);
  };
}

/** Resolves after `ms`, or as soon as `signal` is aborted. Never rejects. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      unlisten();
      resolve();
    };
    const timer = setTimeout(done, ms);
    let unlisten: () => void = () => undefined;
    unlisten = onAbort(signal, done);
  });
}

/** Throws the signal's reason once it is aborted. (`throwIfAborted` is not everywhere yet.) */
export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted) throw signal.reason ?? new DOMException('This operation was aborted', 'AbortError');
}

/**
 * Aborts `controller` when `signal` is, with the same reason. Returns how to undo that.
 * (`AbortSignal.any` is not everywhere yet.)
 */
export function follow(controller: AbortController, signal: AbortSignal | null | undefined): () => void {
  if (signal == null) return () => undefined;
  return onAbort(signal, () => {
    controller.abort(signal.reason);
  });
}

/** What is to be done when a signal is aborted, by signal. */
const tasks = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Does `task` when `signal` is aborted, or at once if it is. Returns how to call it off. However many
 * calls share a signal, it has one listener of this client: more than ten make Node warn of a leak.
 */
export function onAbort(signal: AbortSignal, task: () => void): () => void {
  if (signal.aborted) {
    task();
    return () => undefined;
  }
  let due = tasks.get(signal);
  if (!due) {
    due = new Set();
    tasks.set(signal, due);
  }
  const all = due;
  if (all.size === 0) signal.addEventListener('abort', aborted);
  all.add(task);
  return () => {
    all.delete(task);
    if (all.size === 0) signal.removeEventListener('abort', aborted);
  };
}

function aborted(this: AbortSignal): void {
  for (const task of tasks.get(this) ?? []) task();
}
