// Loads what a component shows, and again when what it depends on changes.
import { useCallback, useEffect, useMemo, useRef, useState } from "./html.js";

/**
 * Call `load(signal)` now and whenever a value of `dependencies` changes; the call before is aborted.
 * Returns {data, error, loading, reload}. `data` stays until the next has arrived; after an error only if it is of the
 * same dependencies. With `every` (seconds) it is repeated while the page is visible.
 */
export function useLoad(load, dependencies = [], { every = 0 } = {}) {
  const [state, setState] = useState({ data: undefined, error: null, loading: true });
  const wanted = useMemo(() => ({}), dependencies);
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const reload = useCallback(() => setTurn((last) => last + 1), []);
  useEffect(() => {
    const abort = new AbortController();
    setState((last) => ({ ...last, loading: true }));
    Promise.resolve()
      .then(() => latest.current(abort.signal))
      .then(
        (data) => abort.signal.aborted || setState({ data, of: wanted, error: null, loading: false }),
        (error) =>
          abort.signal.aborted ||
          setState((last) => ({ ...last, data: last.of === wanted ? last.data : undefined, error, loading: false })),
      );
    return () => abort.abort();
  }, [wanted, turn]);
  useEffect(() => {
    if (!every) return undefined;
    const timer = setInterval(() => document.hidden || reload(), every * 1000);
    return () => clearInterval(timer);
  }, [every, reload]);
  return { ...state, reload };
}

/** `value`, once it has not changed for `ms` milliseconds: for texts that are being typed. */
export function useSettled(value, ms = 250) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
