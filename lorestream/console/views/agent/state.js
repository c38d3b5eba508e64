// An agent's documents with their versions and what differs between them, its Q-tables and its policies.
import { Empty, Field, Loaded, Panel, Table } from "../../components/index.js";
import { api, segments } from "../../core/api.js";
import { bytes, dateTime, decimal, fromNow, number, shellWord } from "../../core/format.js";
import { html } from "../../core/html.js";
import { useLoad, useSettled } from "../../core/load.js";
import { place, setParams } from "../../core/router.js";
import { differences } from "./diff.js";

const KNOWN = ["character", "encoder"];
const EARLIER = html`<p class="muted">There are earlier versions.</p>`;

export function State({ agent }) {
  const { doc = "character", table = "q", policy = "main" } = place.value.params;
  return html`
    <div class="row">
      <${Field} label="Type of the document" value=${doc} list="types" onInput=${(text) => setParams({ doc: text, version: null, against: null })} autocomplete="off" spellcheck=${false} />
      <datalist id="types">${KNOWN.map((each) => html`<option value=${each} />`)}</datalist>
      <${Field} label="Q-table" value=${table} onInput=${(text) => setParams({ table: text })} autocomplete="off" spellcheck=${false} />
      <${Field} label="Policy" value=${policy} onInput=${(text) => setParams({ policy: text })} autocomplete="off" spellcheck=${false} />
    </div>
    <${Document} agent=${agent} type=${useSettled(doc)} />
    <div class="columns">
      <${QTable} agent=${agent} table=${useSettled(table)} />
      <${Policy} agent=${agent} name=${useSettled(policy)} />
    </div>`;
}

/** What was loaded, or why there is nothing: 404 is no fault. */
const OrNothing = ({ of, nothing, children }) => {
  if (of.error?.status === 404) return nothing;
  return html`<${Loaded} of=${of}>${children}<//>`;
};

function Document({ agent, type }) {
  const path = segments`/v1/entities/${type || "character"}/${agent}`;
  const versions = useLoad((signal) => api("GET", `${path}/versions`, { query: { limit: 100 }, signal }), [path]);
  return html`
    <${Panel} title=${`Document ${type || "character"}`}>
      <${OrNothing} of=${versions} nothing=${html`<${Empty} title="This agent has no document of this type." command=${`lorestream state put ${shellWord(type || "character")} ${shellWord(agent)} '{"name": "Ada"}'`}>A document is a JSON object with versions. Write one:<//>`}>
        ${({ versions: kept, next_cursor: more }) => html`<${Versions} kept=${kept} />${more && EARLIER}`}
      <//>
    <//>`;
}

function Versions({ kept }) {
  const newest = kept.find((each) => !each.deleted)?.version;
  const { version = String(newest), against } = place.value.params;
  const older = kept.filter((each) => !each.deleted && each.version < Number(version))[0]?.version;
  const with_ = against ?? (older === undefined ? undefined : String(older));
  const find = (wanted) => kept.find((each) => String(each.version) === wanted && !each.deleted);
  const [shown, before] = [find(version), find(with_)];
  const columns = [
    { key: "version", title: "Version", align: "right" },
    { key: "at", title: "Time", render: (row) => html`<span title=${fromNow(row.updated_at)}>${dateTime(row.updated_at)}</span>` },
    { key: "tick", title: "Tick", align: "right", render: (row) => row.tick ?? "–" },
    { key: "what", title: "", render: (row) => (row.deleted ? "deleted" : String(row.version) === version ? "shown" : html`
      <button type="button" class="small" onClick=${() => setParams({ version: row.version, against: null })}>Show</button>
      <button type="button" class="small" disabled=${String(row.version) === with_} onClick=${() => setParams({ against: row.version })}>Compare</button>`) },
  ];
  return html`
    <div class="columns">
      <${Table} caption="Versions, the newest first" columns=${columns} rows=${kept} keyOf=${(row) => row.version} />
      <div>${shown ? html`<${Compared} now=${shown} before=${before} />` : html`<p class="muted">It is deleted.</p>`}</div>
    </div>`;
}

const Compared = ({ now, before }) => html`
  <h3>Version ${now.version}</h3>
  <pre tabindex="0" aria-label="Data">${JSON.stringify(now.data, null, 2)}</pre>
  ${before && html`<h3>What differs from version ${before.version}</h3><${Changes} changes=${differences(before.data, now.data)} />`}`;

const Changes = ({ changes }) =>
  changes.length
    ? html`<dl class="changes">${changes.map(({ path, before, after }) => html`
        <dt><code>${path}</code></dt>
        <dd>${before !== undefined && html`<del>${before}</del> `}${after !== undefined && html`<ins>${after}</ins>`}</dd>`)}</dl>`
    : html`<p class="muted">Nothing.</p>`;

function QTable({ agent, table }) {
  const loaded = useLoad((signal) => api("GET", segments`/v1/q/${agent}`, { query: { table, limit: 100 }, signal }), [agent, table]);
  const columns = [
    { key: "state", title: "State", wide: true, value: (row) => row.state },
    { key: "action", title: "Action", value: (row) => row.action },
    { key: "q", title: "Value", align: "right", value: (row) => row.q, render: (row) => decimal(row.q, 4) },
    { key: "n", title: "Updates", align: "right", value: (row) => row.n, render: (row) => number(row.n) },
  ];
  return html`
    <${Panel} title=${`Q-table ${table}`}>
      <${OrNothing} of=${loaded} nothing=${html`<p class="muted">There is none.</p>`}>
        ${({ values, next_cursor: more }) => {
          const rows = Object.entries(values).flatMap(([state, actions]) => Object.entries(actions).map(([action, { q, n }]) => ({ state, action, q, n })));
          if (!rows.length) return html`<p class="muted">There is none.</p>`;
          return html`<${Table} caption="Values" columns=${columns} rows=${rows} keyOf=${(row) => `${row.state} ${row.action}`} />${more && html`<p class="muted">The first ${number(Object.keys(values).length)} states.</p>`}`;
        }}
      <//>
    <//>`;
}

function Policy({ agent, name }) {
  const loaded = useLoad((signal) => api("GET", `${segments`/v1/policies/${agent}`}/versions`, { query: { name }, signal }), [agent, name]);
  const columns = [
    { key: "version", title: "Version", align: "right" },
    { key: "format", title: "Format", render: (row) => row.format ?? "–" },
    { key: "size", title: "Size", align: "right", render: (row) => bytes(row.size) },
    { key: "at", title: "Time", render: (row) => dateTime(row.updated_at) },
    { key: "sha", title: "SHA-256", render: (row) => html`<code title=${row.sha256}>${row.sha256?.slice(0, 12) ?? "deleted"}</code>` },
  ];
  return html`
    <${Panel} title=${`Policy ${name}`}>
      <${OrNothing} of=${loaded} nothing=${html`<p class="muted">There is none.</p>`}>
        ${({ versions, next_cursor: more }) => (versions.length ? html`<${Table} caption="Versions" columns=${columns} rows=${versions} keyOf=${(row) => row.version} />${more && EARLIER}` : html`<p class="muted">There is none.</p>`)}
      <//>
    <//>`;
}
