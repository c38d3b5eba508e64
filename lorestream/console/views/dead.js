// Dead letters: records that could not be processed, by reason; decoded, raw, retried, dropped.
import { ConfirmByTyping, Elsewhere, Empty, ErrorBox, Json, Loaded, Panel, Select, Table, TaskState } from "../components/index.js";
import { dateTime, fromNow, number, shellWord } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/load.js";
import { place, setParams } from "../core/router.js";
import { runTask, useTask, useTasks } from "../core/tasks.js";

const SHOWN = 2000;

const COLUMNS = [
  { key: "id", title: "Id", value: (row) => row.failed_at, render: (row) => html`<code>${row.id}</code>` },
  { key: "failed_at", title: "Failed", value: (row) => row.failed_at, render: (row) => dateTime(row.failed_at) },
  { key: "reason", title: "Reason", value: (row) => row.reason },
  { key: "what", title: "Event", value: (row) => row.type ?? row.op, render: (row) => [row.op, row.type].filter(Boolean).join(" ") || "–" },
  { key: "agent_id", title: "Agent", value: (row) => row.agent_id, render: (row) => row.agent_id ?? "–" },
  { key: "attempts", title: "Attempts", align: "right", value: (row) => row.attempts },
  { key: "error", title: "Error", wide: true, value: (row) => row.error },
];

export function View() {
  const { reason = "", id = "" } = place.value.params;
  const loaded = useLoad((signal) => runTask("dlq-ls", { limit: SHOWN }, { signal }));
  const tasks = useTasks();
  const task = useTask(loaded.reload);
  const [asked, ask] = useState(null);
  return html`
    <h1>Dead letters</h1>
    <${Loaded} of=${loaded} label="Reading the dead letters">
      ${({ rows, outcome }) => {
        if (!outcome.total) {
          return html`
            <${Empty} title="No dead letters.">A record that can never be processed would be kept here with its reason, for 14 days. An outage makes none: workers wait until it is over.<//>
            <${TaskState} state=${task.state} />`;
        }
        const counts = new Map();
        for (const row of rows) counts.set(row.reason, (counts.get(row.reason) ?? 0) + 1);
        const chosen = rows.filter((row) => !reason || row.reason === reason);
        const all = { every: true, ...(reason && { reason }) };
        const named = reason || "all";
        const busy = task.state?.running;
        return html`
          <div class="row">
            <${Select} label="Reason" value=${reason} onChange=${(value) => setParams({ reason: value, id: "" })}
              options=${[["", `all (${number(outcome.total)})`], ...[...counts].map(([name, count]) => [name, `${name} (${number(count)})`])]} />
            ${tasks.offers("dlq-retry") && html`
              <div class="actions">
                <button type="button" disabled=${busy} onClick=${() => task.run("dlq-retry", all)}>Retry ${named}</button>
                <button type="button" class="danger" disabled=${busy} onClick=${() => ask({ args: all, name: named })}>Drop ${named} …</button>
              </div>`}
            <button type="button" onClick=${loaded.reload} disabled=${loaded.loading}>Refresh</button>
          </div>
          ${outcome.total > rows.length && html`<p class="muted">The newest ${number(rows.length)} of ${number(outcome.total)} are shown.</p>`}
          ${tasks.error && html`<${ErrorBox} error=${tasks.error} retry=${tasks.reload} />`}
          ${tasks.data && !tasks.offers("dlq-retry") && html`<${Elsewhere} what="retry or drop" commands=${commands(reason, id)} />`}
          <${TaskState} state=${task.state} />
          <div class="beside">
            <${Panel}><${Table} caption="Dead letters" columns=${COLUMNS} rows=${chosen} keyOf=${(row) => row.id} selected=${id} onSelect=${(row) => setParams({ id: row.id })} /><//>
            ${id ? html`<${Detail} id=${id} offers=${tasks.offers("dlq-retry")} task=${task} ask=${ask} />` : html`<p class="muted">Choose one to see its content.</p>`}
          </div>`;
      }}
    <//>
    ${asked && html`
      <${ConfirmByTyping} title="Drop dead letters" name=${asked.name} action="Drop" run=${() => task.run("dlq-drop", asked.args)} onClose=${(done) => {
        ask(null);
        if (done) setParams({ id: "" });
      }}>
        <p>What is dropped is not processed any more, and cannot be brought back from here.</p>
      <//>`}`;
}

function commands(reason, id) {
  if (id) return [`lorestream dlq retry ${shellWord(id)}`, `lorestream dlq drop ${shellWord(id)}`];
  const only = reason ? ` --reason ${shellWord(reason)}` : "";
  return [`lorestream dlq retry --all${only}`, `lorestream dlq drop --all${only} --dry-run`];
}

function Detail({ id, offers, task, ask }) {
  const loaded = useLoad((signal) => runTask("dlq-show", { id }, { signal }), [id]);
  const busy = task.state?.running;
  const buttons = offers && html`
    <button type="button" class="small" disabled=${busy} onClick=${() => task.run("dlq-retry", { ids: [id], force: true })}>Retry</button>
    <button type="button" class="small danger" disabled=${busy} onClick=${() => ask({ args: { ids: [id] }, name: id })}>Drop …</button>`;
  return html`
    <${Panel} title=${`Dead letter ${id}`} actions=${buttons}>
      <${Loaded} of=${loaded} label="Reading the dead letter">
        ${({ rows: [row] }) => html`
          <p><strong>${row.reason}</strong>, ${fromNow(row.failed_at)}, ${row.attempts} ${row.attempts === 1 ? "attempt" : "attempts"}, ${number(row.bytes)} bytes</p>
          <p class="bad">${row.error}</p>
          <h3>${row.raw === undefined ? "Content, decoded" : "Content, raw: it is no JSON"}</h3>
          ${row.raw === undefined ? html`<${Json} value=${row.value} />` : html`<pre tabindex="0">${row.raw}</pre>`}
          <h3>Key</h3><pre tabindex="0">${row.key}</pre>
          <h3>Headers</h3><${Json} value=${row.headers} />`}
      <//>
    <//>`;
}
