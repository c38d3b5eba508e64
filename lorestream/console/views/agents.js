// Agents: the largest first, by the beginning of their ids; and one agent.
import { Empty, Field, Loaded, Table } from "../components/index.js";
import { api } from "../core/api.js";
import { number } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad, useSettled } from "../core/load.js";
import { go, href, place, setParams } from "../core/router.js";
import { Agent } from "./agent/agent.js";

const MAX_AGENTS = 1000;

export function View() {
  const [agent] = place.value.parts;
  return agent === undefined ? html`<${Agents} />` : html`<${Agent} key=${agent} agent=${agent} />`;
}

function Agents() {
  const { q = "" } = place.value.params;
  const prefix = useSettled(q);
  const loaded = useLoad((signal) => api("GET", "/v1/agents", { query: { limit: MAX_AGENTS, prefix }, signal }), [prefix]);
  const submit = (event) => {
    event.preventDefault();
    if (q) go("agents", [q]);
  };
  return html`
    <h1>Agents</h1>
    <form class="row" onSubmit=${submit}>
      <${Field} label="Beginning of the id" type="search" data-search value=${q} onInput=${(text) => setParams({ q: text })} placeholder="npc:" autocomplete="off" spellcheck=${false} />
      <button type="submit" disabled=${!q}>Open this agent</button>
    </form>
    <${Loaded} of=${loaded} label="Loading the agents">
      ${({ agents }) => html`<${List} agents=${agents} prefix=${prefix} />`}
    <//>`;
}

function List({ agents, prefix }) {
  const most = Math.max(1, ...agents.map((each) => each.total));
  if (!agents.length && prefix) return html`<${Empty} title="No agent has an id that begins so.">Ids are compared letter by letter.<//>`;
  if (!agents.length) return html`<${Empty} title="Nobody remembers anything yet." command="lorestream demo">Play a small village into this service:<//>`;
  const columns = [
    { key: "agent_id", title: "Agent", value: (row) => row.agent_id, wide: true, render: (row) => html`<a href=${href("agents", [row.agent_id])}>${row.agent_id}</a>` },
    { key: "total", title: "Memories", value: (row) => row.total, align: "right", render: (row) => number(row.total) },
    { key: "share", title: "", wide: true, render: (row) => html`<meter min="0" max=${most} value=${row.total} aria-label=${`${row.total} memories`}></meter>` },
  ];
  return html`
    <${Table} caption="Agents, the largest first" columns=${columns} rows=${agents} keyOf=${(row) => row.agent_id} />
    ${agents.length === MAX_AGENTS && html`<p class="muted">The ${number(MAX_AGENTS)} largest are shown: type the beginning of an id to find others.</p>`}`;
}
