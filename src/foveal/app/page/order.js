// The order of actions: the last one wins.

/** Signals for actions of one kind: the next action aborts the one before it. */
export class Latest {
  #controller = new AbortController();

  get signal() {
    return this.#controller.signal;
  }

  next() {
    this.#controller.abort();
    this.#controller = new AbortController();
    return this.signal;
  }
}

/**
 * Return a function that calls `run`, an async function without arguments, at most once at a time. However often it is
 * called meanwhile, `run` is called once more afterwards, also if it failed; only the failure of the last run counts.
 */
export function lastOnly(run) {
  let [running, again] = [null, false];
  return () => {
    again = true;
    running ??= (async () => {
      try {
        while (again) {
          again = false;
          try {
            await run();
          } catch (error) {
            if (!again) throw error;
          }
        }
      } finally {
        running = null;
      }
    })();
    return running;
  };
}
