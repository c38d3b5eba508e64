// With whom an agent has to do: by `about` and `player` of its memories.
import { Empty, Loaded, Table } from "../../components/index.js";
import { api, segments } from "../../core/api.js";
import { dateTime, decimal, fromNow, number } from "../../core/format.js";
import { html } from "../../core/html.js";
import { useLoad } from "../../core/load.js";
import { href } from "../../core/router.js";

/** Whether it has the form of a pseudonym: a player, not an agent. */
const isPlayer = (name) => /^[\w-]{1,32}:[0-9a-f]{64}$/.test(name);

const COLUMNS = [
  { key: "with", title: "With", value: (row) => row.with, wide: true, render: (row) => (isPlayer(row.with) ? row.with : html`<a href=${href("agents", [row.with])}>${row.with}</a>`) },
  { key: "total", title: "Memories", value: (row) => row.total, align: "right", render: (row) => number(row.total) },
  { key: "valence", title: "Valence", value: (row) => row.valence, align: "right", render: (row) => decimal(row.valence) },
  { key: "last", title: "Last", value: (row) => row.last, render: (row) => html`<span title=${dateTime(row.last)}>${fromNow(row.last)}</span>` },
];

export function Relations({ agent, summary }) {
  const loaded = useLoad((signal) => api("GET", segments`/v1/agents/${agent}/relations`, { query: { limit: 1000 }, signal }), [agent, summary]);
  return html`
    <${Loaded} of=${loaded} label="Reading who is meant">
      ${({ relations }) => (relations.length
        ? html`<${Table} caption="Relations, the most memories first" columns=${COLUMNS} rows=${relations} keyOf=${(row) => row.with} />`
        : html`<${Empty} title="No memory says whom it is about.">Events name agents and players in <code>about</code>, and a player in <code>player</code>; <code>valence</code> in their metadata is summed.<//>`)}
    <//>`;
}
