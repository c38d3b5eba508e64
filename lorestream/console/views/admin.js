// Keys, limits, erasures with their proof, audit lines, the doctor's checks, settings with their origin.
import { ConfirmByTyping, Copy, Elsewhere, Empty, Field, Loaded, Panel, Select, Table, Tabs, Tag } from "../components/index.js";
import { api } from "../core/api.js";
import { bytes, dateTime, fromNow, number } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/load.js";
import { href, place, setParams } from "../core/router.js";
import { runTask, useTasks } from "../core/tasks.js";

const PATH = "admin";
const TABS = { keys: ["Keys", Keys], limits: ["Limits", Limits], erasures: ["Erasures", Erasures], audit: ["Audit", Audit], doctor: ["Doctor", Doctor], settings: ["Settings", Settings] };

export function View() {
  const chosen = TABS[place.value.parts[0]] ? place.value.parts[0] : "keys";
  const [title, Tab] = TABS[chosen];
  return html`
    <${Tabs} label="Parts of the administration" tabs=${Object.entries(TABS).map(([name, [text]]) => [name, text, href(PATH, [name])])} chosen=${chosen} />
    <h1>${title}</h1>
    <${Tab} key=${chosen} />`;
}

const Commands = ({ of }) => html`${of.map(([text, why]) => html`<p class="command"><code>${text}</code> <${Copy} text=${text} /> <span class="muted">${why}</span></p>`)}`;

// --- keys -----------------------------------------------------------------------------------------------------------

const KEY_TONES = { live: "ok", expired: "warn", revoked: "bad" };
const KEY_COLUMNS = [
  { key: "id", title: "Id", value: (row) => row.id, render: (row) => html`<code>${row.id}</code>` },
  { key: "state", title: "State", value: (row) => row.state, render: (row) => html`<${Tag} tone=${KEY_TONES[row.state]}>${row.state}<//>` },
  { key: "tenant", title: "Tenant", value: (row) => row.tenant },
  { key: "scopes", title: "Scopes", wide: true, render: (row) => row.scopes.join(", ") },
  { key: "label", title: "Label", wide: true, value: (row) => row.label, render: (row) => row.label ?? "–" },
  { key: "created", title: "Created", value: (row) => row.created, render: (row) => row.created.slice(0, 10) },
  { key: "expires", title: "Expires", value: (row) => row.expires, render: (row) => row.expires?.slice(0, 10) ?? "never" },
];

function Keys() {
  const loaded = useLoad((signal) => api("GET", "/v1/admin/keys", { signal }));
  return html`
    <${Loaded} of=${loaded} label="Reading the key file">
      ${({ file, keys }) => html`
        ${file === null
          ? html`<${Empty} title="There are no API keys." command="lorestream keys create --operator --scope admin --tenant default --file keys.json">Only this machine is served, and each of its programs may do everything. To serve others, make a key and set LORESTREAM_API_KEYS_FILE:<//>`
          : html`<${Panel} title=${`${number(keys.length)} in ${file}`}><${Table} caption="API keys" columns=${KEY_COLUMNS} rows=${keys} keyOf=${(row) => row.id} /><//>`}
        <${Panel} title="Make, replace and revoke keys">
          <p class="muted">A secret is shown once, on the terminal of who makes the key: it never passes through this page. The services read the file again within two seconds.</p>
          <${Commands} of=${[
            ["lorestream keys create --tenant default --scope ingest --scope query --scope erase", "a key for a game server"],
            ["lorestream keys rotate ID", "another key with the same rights; the old one stays valid"],
            ["lorestream keys revoke ID", "refused from then on, for ever"],
          ]} />
        <//>`}
    <//>`;
}

// --- settings and limits --------------------------------------------------------------------------------------------

const LIMIT_SETTINGS = /^LORESTREAM_(LIMITS__|TTL_DAYS$|KEEP_PER_AGENT$|MIN_FREE_BYTES$|LOG__RETENTION_DAYS$|LOG__MAX_BYTES$|STATE__KEEP_VERSIONS$)/;
const shownValue = (value) => (value === null ? "–" : typeof value === "number" ? number(value) : String(value));
const SETTING_COLUMNS = [
  { key: "name", title: "Setting", value: (row) => row.name, render: (row) => html`<code>${row.name}</code>` },
  { key: "value", title: "Value", wide: true, value: (row) => String(row.value), render: (row) => shownValue(row.value) },
  { key: "origin", title: "From", wide: true, value: (row) => row.origin, render: (row) => (row.origin === "default" ? html`<span class="muted">default</span>` : html`<strong>${row.origin}</strong>`) },
];
const FIXED_COLUMNS = [
  { key: "name", title: "What", value: (row) => row.name },
  { key: "value", title: "At most", align: "right", value: (row) => row.value, render: (row) => (row.unit === "bytes" ? bytes(row.value) : `${number(row.value)} ${row.unit}`) },
];

const useSettings = () => useLoad((signal) => api("GET", "/v1/admin/settings", { signal }));

function Limits() {
  return html`
    <${Loaded} of=${useSettings()} label="Reading the settings">
      ${({ settings, limits }) => html`
        <${Panel} title="Set by you">
          <p class="muted">0 is no limit. Requests above a rate get 429 with the time to wait; a bucket holds LIMITS__BURST_S seconds of its rate.</p>
          <${Table} caption="Limits that settings change" columns=${SETTING_COLUMNS} rows=${settings.filter((each) => LIMIT_SETTINGS.test(each.name))} keyOf=${(row) => row.name} />
        <//>
        <${Panel} title="Fixed"><${Table} caption="Fixed limits" columns=${FIXED_COLUMNS} rows=${limits} keyOf=${(row) => row.name} /><//>`}
    <//>`;
}

function Settings() {
  const { q = "", only = "" } = place.value.params;
  return html`
    <div class="row">
      <${Field} label="Search" type="search" data-search value=${q} onInput=${(text) => setParams({ q: text })} placeholder="part of a name or a value" />
      <${Select} label="Show" value=${only} options=${[["", "all"], ["set", "those that somebody has set"]]} onChange=${(value) => setParams({ only: value })} />
    </div>
    <${Loaded} of=${useSettings()} label="Reading the settings">
      ${({ settings }) => {
        const wanted = q.toLowerCase();
        const rows = settings.filter((each) => (!only || each.origin !== "default") && `${each.name} ${each.value}`.toLowerCase().includes(wanted));
        if (!rows.length) return html`<${Empty} title="No setting matches." />`;
        return html`<${Panel}><p class="muted">Read once, when the process started. Secrets are not shown.</p><${Table} caption="Settings" columns=${SETTING_COLUMNS} rows=${rows} keyOf=${(row) => row.name} /><//>`;
      }}
    <//>`;
}

// --- erasures and audit ---------------------------------------------------------------------------------------------

const ERASURE_COLUMNS = [
  { key: "accepted_at", title: "Asked", value: (row) => row.accepted_at, render: (row) => dateTime(row.accepted_at) },
  { key: "kind", title: "Of", value: (row) => row.kind },
  { key: "subjects", title: "Whom", wide: true, value: (row) => row.subjects[0], render: (row) => html`<span title=${row.subjects.join(", ")}>${row.subjects[0]}</span>` },
  { key: "state", title: "Reads", value: (row) => row.state, render: (row) => html`<${Tag} tone=${row.state === "done" ? "ok" : "warn"}>${row.state === "done" ? "show nothing of it" : "running"}<//>` },
  { key: "log", title: "Out of the log", value: (row) => row.log_gone_by, render: (row) => gone(row.log_gone_by) },
  { key: "letters", title: "Out of the dead letters", value: (row) => row.dead_letters_gone_by, render: (row) => gone(row.dead_letters_gone_by) },
  { key: "id", title: "Erasure", render: (row) => html`<code>${row.erasure_id.slice(0, 8)}</code> <${Copy} text=${row.erasure_id} label="Copy id" />` },
];

const gone = (at) => html`<span title=${dateTime(at)}>${at * 1000 <= Date.now() ? html`<${Tag} tone="ok">gone<//>` : `${dateTime(at).slice(0, 10)}, ${fromNow(at)}`}</span>`;

function Erasures() {
  const loaded = useLoad((signal) => api("GET", "/v1/erasures", { query: { limit: 1000 }, signal }), [], { every: 10 });
  const [name, setName] = useState("");
  const [kind, setKind] = useState("agent_id");
  const [asked, ask] = useState(false);
  const subject = name.trim();
  const erase = async () => {
    await api("POST", "/v1/erasures", { body: { [kind]: subject } });
    setName("");
    loaded.reload();
  };
  return html`
    <form class="row" onSubmit=${(event) => { event.preventDefault(); ask(true); }}>
      <${Select} label="Erase" value=${kind} options=${[["agent_id", "an agent"], ["player", "a player"]]} onChange=${setKind} />
      <${Field} label=${kind === "player" ? "Player's name" : "Agent id"} value=${name} onInput=${setName} autocomplete="off" spellcheck=${false} />
      <button type="submit" class="danger" disabled=${!subject}>Erase …</button>
    </form>
    ${asked && html`
      <${ConfirmByTyping} title="Erase for good" name=${subject} action="Erase" run=${erase} onClose=${() => ask(false)}>
        <p>${kind === "player" ? "Every memory about this player, of any agent, and the agents named after it, are erased." : "Everything that this agent remembers, and its state, is erased."} This cannot be undone. What is accepted afterwards is kept.</p>
      <//>`}
    <${Loaded} of=${loaded} label="Reading the erasures">
      ${({ erasures }) => erasures.length
        ? html`<${Panel}><p class="muted">From the moment that an erasure is done no read shows what it covers. The log and the dead letters lose the records by the times shown, which are its proof. Players are listed by their pseudonyms; deletions of single memories are in the audit log alone.</p><${Table} caption="Erasures" columns=${ERASURE_COLUMNS} rows=${erasures} keyOf=${(row) => row.erasure_id} /><//>`
        : html`<${Empty} title="Nobody was erased." />`}
    <//>
    <${Rewinds} />`;
}

const REWIND_TONES = { running: "warn", done: "ok", undoing: "warn", undone: "" };
const REWIND_COLUMNS = [
  { key: "accepted_at", title: "Asked", value: (row) => row.accepted_at, render: (row) => dateTime(row.accepted_at) },
  { key: "server", title: "Server", wide: true, value: (row) => row.server },
  { key: "to", title: "Back to", value: (row) => row.to, render: (row) => dateTime(row.to) },
  { key: "state", title: "State", value: (row) => row.state, render: (row) => html`<${Tag} tone=${REWIND_TONES[row.state]}>${row.state}<//>` },
  { key: "id", title: "Rewind", render: (row) => html`<code>${row.rewind_id.slice(0, 8)}</code> <${Copy} text=${row.rewind_id} label="Copy id" />` },
];

function Rewinds() {
  const loaded = useLoad((signal) => api("GET", "/v1/rewinds", { query: { limit: 100 }, signal }), [], { every: 10 });
  return html`
    <${Loaded} of=${loaded} label="Reading the rewinds">
      ${({ rewinds }) => rewinds.length > 0 && html`
        <${Panel} title="Worlds that went back">
          <p class="muted">What agents came to know on a server after that time is hidden, because its world was restored. To undo one: <code>lorestream rewind --undo ID</code></p>
          <${Table} caption="Rewinds" columns=${REWIND_COLUMNS} rows=${rewinds} keyOf=${(row) => row.rewind_id} />
        <//>`}
    <//>`;
}

const AUDIT_COLUMNS = [
  { key: "at", title: "When", value: (row) => row.at, render: (row) => dateTime(row.at) },
  { key: "event", title: "What", value: (row) => row.event },
  { key: "kind", title: "Of", value: (row) => row.kind, render: (row) => row.kind ?? "server" },
  { key: "tenant", title: "Tenant", value: (row) => row.tenant },
  { key: "by", title: "By key", value: (row) => row.by, render: (row) => row.by || "–" },
  { key: "memory_id", title: "Memory", render: (row) => (row.memory_id ? html`<code>${row.memory_id.slice(0, 8)}</code>` : "–") },
  { key: "id", title: "Id", render: (row) => html`<code title=${row.erasure_id ?? row.rewind_id}>${(row.erasure_id ?? row.rewind_id).slice(0, 8)}</code>` },
];

function Audit() {
  const loaded = useLoad((signal) => api("GET", "/v1/admin/audit", { signal }), [], { every: 10 });
  return html`
    <p class="muted">What this process has logged since it started, without names: those of gateways and workers in other processes are in their logs, under <code>lorestream.audit</code>.</p>
    <${Loaded} of=${loaded} label="Reading the audit lines">
      ${({ lines }) => lines.length
        ? html`<${Panel}><${Table} caption="Audit lines" columns=${AUDIT_COLUMNS} rows=${lines} keyOf=${(row) => `${row.at} ${row.erasure_id ?? row.rewind_id} ${row.event}`} /><//>`
        : html`<${Empty} title="Nothing was deleted since this process started." />`}
    <//>`;
}

// --- doctor ---------------------------------------------------------------------------------------------------------

const VERDICTS = { ok: ["ok", "ok"], warning: ["warn", "warning"], failed: ["bad", "failed"], skipped: ["", "skipped"] };
const CHECK_COLUMNS = [
  { key: "name", title: "Check", value: (row) => row.name },
  { key: "verdict", title: "Verdict", value: (row) => row.verdict, render: (row) => html`<${Tag} tone=${VERDICTS[row.verdict][0]}>${VERDICTS[row.verdict][1]}<//>` },
  { key: "evidence", title: "Found", wide: true },
  { key: "fix", title: "What to do", wide: true, render: (row) => row.fix ?? "–" },
];

async function examine(signal) {
  const [ready, { rows }] = await Promise.all([
    // A service that is not ready answers with the same checks.
    api("GET", "/ready", { signal }).catch((error) => (error.body?.checks ? error.body : { checks: { ready: error.message } })),
    runTask("doctor", {}, { signal }),
  ]);
  const parts = Object.entries(ready.checks).map(([name, found]) => ({
    name: `part: ${name}`,
    verdict: found === "ok" ? "ok" : "failed",
    evidence: found === "ok" ? "works" : found,
  }));
  return [...parts, ...rows];
}

function Doctor() {
  return html`
    <${Loaded} of=${useTasks()} label="Asking what the service can do">
      ${({ offered }) => (offered.includes("doctor") ? html`<${Checks} />` : html`<${Elsewhere} what="examine itself" commands=${["lorestream doctor"]} />`)}
    <//>`;
}

function Checks() {
  const loaded = useLoad(examine);
  return html`
    <p><button type="button" onClick=${loaded.reload} disabled=${loaded.loading}>Examine again</button></p>
    <${Loaded} of=${loaded} label="Examining the parts, the disk, the model">
      ${(rows) => html`<${Panel}><${Table} caption="Checks" columns=${CHECK_COLUMNS} rows=${rows} keyOf=${(row) => row.name} /><//>`}
    <//>
    <${Commands} of=${[["lorestream doctor", "checks ports, Kafka, Qdrant, Redis and the Luanti server as well"]]} />`;
}
