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
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}

/**
 * Aborts `controller` when `signal` is, with the same reason. Returns how to undo that, so that a
 * signal that outlives many calls does not collect their listeners. (`AbortSignal.any` is not
 * everywhere yet.)
 */
export function follow(controller: AbortController, signal: AbortSignal | undefined): () => void {
  if (signal === undefined) return () => undefined;
  const abort = () => {
    controller.abort(signal.reason);
  };
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  return () => {
    signal.removeEventListener('abort', abort);
  };
}
