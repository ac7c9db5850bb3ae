import type { Lock } from './lock.js';

/** The part of Node's `AsyncLocalStorage` that is used. */
interface Storage {
  getStore(): readonly Lock[] | undefined;
  run<T>(store: readonly Lock[], routine: () => T): T;
}

interface Process {
  getBuiltinModule?: (name: string) => { AsyncLocalStorage?: new () => Storage } | undefined;
}

let storage: Storage | null | undefined;

/** Where the runtime has it (Node, Deno, Bun, and workerd if asked): what a routine was started by. */
function context(): Storage | null {
  if (storage === undefined) {
    const { process } = globalThis as unknown as { process?: Process };
    const Store = process?.getBuiltinModule?.('node:async_hooks')?.AsyncLocalStorage;
    storage = Store ? new Store() : null;
  }
  return storage;
}

/** The lock on `key` that the code which calls this runs under, of those taken as `owner`. */
export function around(owner: object, key: unknown): Lock | undefined {
  return context()
    ?.getStore()
    ?.find((lock) => lock.key === key && lock.isHeldBy(owner));
}

/** Runs `routine` so that it is known to run under `lock`. */
export function under<T>(lock: Lock, routine: () => T): T {
  const store = context();
  return store ? store.run([...(store.getStore() ?? []), lock], routine) : routine();
}
