// Admin tasks: calls of POST /v1/admin/NAME, which answer with a stream of reports.
import { ApiError, api, lines } from "./api.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";
import { useLoad } from "./load.js";

/**
 * Run a task. `onReport(report)` gets progress, remarks and rows as they arrive. Returns {rows, outcome}.
 * Raises ApiError, also when the task fails or the connection ends before it does.
 */
export async function runTask(name, args = {}, { onReport, signal } = {}) {
  const rows = [];
  for await (const report of lines("POST", `/v1/admin/${name}`, { body: args, signal })) {
    onReport?.(report);
    if (report.report === "row") rows.push(report.value);
    else if (report.report === "outcome") return { rows, outcome: report.value };
    else if (report.report === "failure") throw new ApiError(409, { message: report.message });
  }
  throw new ApiError(0, { message: "the connection ended before the task did: check that the service still runs, then try again" });
}

/** Which tasks the service carries out, and their last calls: what GET /v1/admin/tasks answers, by `useLoad`. */
export function useTasks(options) {
  const loaded = useLoad((signal) => api("GET", "/v1/admin/tasks", { signal }), [], options);
  return { ...loaded, offers: (name) => loaded.data?.offered.includes(name) ?? false };
}

/**
 * One task of a view: {run(name, args), state}. `state`: {name, running, progress, remarks, outcome, error}, or null
 * before the first call. `onDone(name, outcome)` is called when a task has succeeded.
 */
export function useTask(onDone) {
  const [state, setState] = useState(null);
  const abort = useRef(null);
  useEffect(() => () => abort.current?.abort(), []);
  const run = useCallback(
    async (name, args) => {
      abort.current?.abort();
      abort.current = new AbortController();
      setState({ name, running: true, remarks: [] });
      const onReport = (report) => {
        if (report.report === "progress") setState((last) => ({ ...last, progress: report }));
        if (report.report === "remark") setState((last) => ({ ...last, remarks: [...last.remarks, report.text] }));
      };
      try {
        const { outcome } = await runTask(name, args, { onReport, signal: abort.current.signal });
        setState((last) => ({ ...last, running: false, outcome }));
        onDone?.(name, outcome);
      } catch (error) {
        if (error.name !== "AbortError") setState((last) => ({ ...last, running: false, error }));
      }
    },
    [onDone],
  );
  return { run, state };
}
