// Index: the collections, what they lack of the log, replay with its gate, swap, rollback, drop.
import { ConfirmByTyping, Elsewhere, ErrorBox, Field, Loaded, Outcome, Panel, Stat, Table, Tag, TaskState } from "../components/index.js";
import { api } from "../core/api.js";
import { dateTime, decimal, fromNow, number } from "../core/format.js";
import { html, useCallback, useState } from "../core/html.js";
import { useLoad } from "../core/load.js";
import { runTask, useTask, useTasks } from "../core/tasks.js";

const EVERY_S = 5;
const KEPT = "A collection that was searched until just now is kept for a minute: searches in it may still be running.";
const now = () => Date.now() / 1000; // the browser's clock, and from the service only durations

export function View() {
  const pipeline = useLoad((signal) => api("GET", "/v1/admin/pipeline", { signal }), [], { every: EVERY_S });
  const tasks = useTasks({ every: EVERY_S });
  const searched = pipeline.data?.collections.find((each) => each.searched)?.name;
  const listed = useLoad(async (signal) => {
    const rows = tasks.offers("alias-list") ? (await runTask("alias-list", {}, { signal })).rows : [];
    return rows.map((each) => ({ ...each, keptUntil: now() + each.kept_for_s }));
  }, [tasks.data?.offered.join(), searched]);
  const done = useCallback(() => {
    pipeline.reload();
    listed.reload();
  }, [pipeline.reload, listed.reload]);
  const task = useTask(done);
  return html`
    <h1>Index</h1>
    <p class="muted">A collection is one index of the memories, filled from the log by one embedding model. Searches go to one of them; the others are kept up to date, so that a swap takes seconds.</p>
    <${Loaded} of=${pipeline} label="Reading the collections">
      ${({ collections }) => html`
        ${[tasks, listed].map((each) => each.error && html`<${ErrorBox} error=${each.error} retry=${each.reload} />`)}
        <${Collections} rows=${collections} more=${listed.data ?? []} busy=${task.state?.running || listed.loading} run=${task.run} offers=${tasks.offers} />
        <${TaskState} state=${task.state}>${(outcome) => (outcome.gate ? html`<${Gate} report=${outcome} />` : html`<${Outcome} value=${outcome} />`)}<//>
        ${tasks.data && (tasks.offers("replay")
          ? html`<${Replay} task=${task} names=${collections.map((each) => each.name)} />`
          : html`<${Panel} title="Fill another collection, and switch to it"><${Elsewhere} what="replay or switch" commands=${COMMANDS} /><//>`)}
        <${Runs} runs=${tasks.data?.runs ?? []} />`}
    <//>`;
}

const COMMANDS = ["lorestream replay --to better", "lorestream alias swap better", "lorestream alias rollback", "lorestream drop NAME"];

function Collections({ rows, more, busy, run, offers }) {
  const [asked, ask] = useState(null);
  const found = Object.fromEntries(more.map((each) => [each.name, each]));
  const kept = (row) => found[row.name]?.keptUntil > now();
  const columns = [
    { key: "name", title: "Collection", value: (row) => row.name, render: (row) => html`<code>${row.name}</code> ${row.searched && html`<${Tag} tone="ok">searched<//>`} ${row.switching && html`<${Tag} tone="warn">switching<//>`} ${!row.whole && html`<${Tag} tone="warn">not complete<//>`}` },
    { key: "model", title: "Model", value: (row) => row.model, render: (row) => `${row.model}, ${row.dim} dimensions` },
    { key: "memories", title: "Memories", align: "right", value: (row) => found[row.name]?.memories, render: (row) => number(found[row.name]?.memories) },
    { key: "behind", title: "Records behind", align: "right", value: (row) => row.behind, render: (row) => number(row.behind) },
    { key: "replaced", title: "Replaced", value: (row) => found[row.name]?.replaced_at, render: (row) => (found[row.name]?.replaced_at ? fromNow(found[row.name].replaced_at) : "–") },
    {
      key: "do",
      title: "",
      render: (row) =>
        !row.searched && offers("alias-swap") && html`
          <span class="actions">
            <button type="button" class="small" disabled=${busy || !row.whole} onClick=${() => ask({ ...SWAP, name: row.name, args: { to: row.name } })}>Swap to it …</button>
            <button type="button" class="small danger" disabled=${busy || kept(row)} title=${kept(row) ? KEPT : undefined} onClick=${() => ask({ ...DROP, name: row.name, args: { name: row.name } })}>Drop …</button>
          </span>`,
    },
  ];
  const back = more.find((each) => each.replaced_at !== null && each.replaced_at !== undefined);
  const actions = back && offers("alias-rollback") && html`
    <button type="button" class="small" disabled=${busy} onClick=${() => ask({ ...ROLLBACK, name: back.name, args: {} })}>Roll back to ${back.name} …</button>`;
  return html`
    <${Panel} title="Collections" actions=${actions}><${Table} caption="Collections" columns=${columns} rows=${rows} keyOf=${(row) => row.name} /><//>
    ${asked && html`
      <${ConfirmByTyping} title=${asked.title} name=${asked.name} action=${asked.action} onClose=${() => ask(null)} run=${() => { run(asked.task, asked.args); }}>
        <p>${asked.text}</p>
      <//>`}`;
}

const SWAP = { task: "alias-swap", title: "Search another collection", action: "Swap", text: "Searches go to this collection from then on. Writes that were reported as finished are found before and after." };
const ROLLBACK = { task: "alias-rollback", title: "Search the collection before", action: "Roll back", text: "Searches go back to the collection that was replaced." };
const DROP = { task: "drop", title: "Delete a collection", action: "Delete", text: "The collection is deleted with its memories. The log keeps its records: a replay fills another one." };

function Replay({ task, names }) {
  const [to, setTo] = useState("");
  const [model, setModel] = useState("");
  const submit = (event) => {
    event.preventDefault();
    task.run("replay", { to: to.trim(), ...(model.trim() && { model: model.trim() }) });
  };
  return html`
    <${Panel} title="Fill another collection">
      <form onSubmit=${submit} class="row">
        <${Field} label="New collection" value=${to} onInput=${setTo} spellcheck=${false} placeholder=${names.includes("better") ? "better-2" : "better"} />
        <${Field} label="Model" value=${model} onInput=${setModel} spellcheck=${false} placeholder="that of the settings" />
        <button type="submit" disabled=${!to.trim() || task.state?.running}>Replay the log into it</button>
      </form>
      <p class="muted">The name of a collection that is not complete continues it. Another model must be prepared: <code>lorestream model prepare NAME</code>. Searches stay as they are meanwhile. At the end a gate compares both collections; then it can be swapped to. When this page is closed, the workers go on filling it: replay to the same name again to see the gate.</p>
    <//>`;
}

const Gate = ({ report }) => html`
  <${Panel} title=${`Gate of ${report.collection}: ${report.gate}`}>
    <div class="stats">
      <${Stat} name="Gate" value=${report.gate} tone=${report.gate === "passed" ? "ok" : "bad"} />
      <${Stat} name="Memories" value=${number(report.memories.new)} note=${`searched: ${number(report.memories.searched)}`} />
      <${Stat} name="Records behind" value=${number(report.behind)} />
      <${Stat} name="Recall at 10" value=${decimal(report.recall_at_10, 3)} note="same nearest memories" />
      <${Stat} name="Found by own text" value=${decimal(report.found_itself, 3)} />
      <${Stat} name="Found by own words" value=${decimal(report.found_by_words, 3)} />
      <${Stat} name="Took" value=${`${number(report.seconds)} s`} note=${`${number(report.copied)} copied`} />
    </div>
    ${report.reasons.map((text) => html`<p class="bad">${text}</p>`)}
  <//>`;

const OWN = new Set(["replay", "alias-swap", "alias-rollback", "drop", "snapshot", "import", "export", "cache-clear"]);

function Runs({ runs }) {
  const shown = runs.filter((each) => OWN.has(each.task));
  if (!shown.length) return null;
  const columns = [
    { key: "task", title: "Task", value: (row) => row.task },
    { key: "state", title: "State", value: (row) => row.state, render: (row) => html`<${Tag} tone=${{ done: "ok", running: "", failed: "bad", aborted: "warn" }[row.state]}>${row.state}<//>` },
    { key: "started", title: "Started", value: (row) => row.started_at, render: (row) => dateTime(row.started_at) },
    { key: "how", title: "", wide: true, render: (row) => how(row) },
  ];
  return html`<${Panel} title="Last call of each task, by anybody"><${Table} caption="Last calls" columns=${columns} rows=${shown} keyOf=${(row) => row.task} /><//>`;
}

function how({ state, progress, outcome, error }) {
  if (error) return html`<span class="bad">${error}</span>`;
  if (state === "running" && progress) return html`${progress.doing}: ${number(progress.done)}${progress.total ? ` of ${number(progress.total)}` : ""} ${progress.unit ?? ""}`;
  if (outcome?.gate) return `gate ${outcome.gate}${outcome.reasons.length ? `: ${outcome.reasons.join("; ")}` : ""}`;
  return outcome ? Object.entries(outcome).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", ") : "";
}
