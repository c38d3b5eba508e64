// Agents: the largest first.
import { Empty, Field, Loaded, Table } from "../components/index.js";
import { api } from "../core/api.js";
import { number } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/load.js";
import { href, place, setParams } from "../core/router.js";

const MAX_AGENTS = 1000;

const COLUMNS = [
  { key: "agent_id", title: "Agent", value: (row) => row.agent_id, wide: true, render: (row) => html`<a href=${href("agents", [row.agent_id])}>${row.agent_id}</a>` },
  { key: "total", title: "Memories", value: (row) => row.total, align: "right", render: (row) => number(row.total) },
];

export function View() {
  const { q = "" } = place.value.params;
  const loaded = useLoad((signal) => api("GET", "/v1/agents", { query: { limit: MAX_AGENTS }, signal }));
  return html`
    <h1>Agents</h1>
    <${Field} label="Search" type="search" data-search value=${q} onInput=${(text) => setParams({ q: text })} placeholder="part of an agent's id" />
    <${Loaded} of=${loaded} label="Loading the agents">
      ${({ agents }) => {
        const shown = agents.filter((each) => each.agent_id.toLowerCase().includes(q.toLowerCase()));
        if (!agents.length) return html`<${Empty} title="Nobody remembers anything yet." command="lorestream demo">Play a small village into this service:<//>`;
        if (!shown.length) return html`<${Empty} title="No agent has this in its id." />`;
        return html`<${Table} caption="Agents" columns=${COLUMNS} rows=${shown} keyOf=${(row) => row.agent_id} />`;
      }}
    <//>`;
}
