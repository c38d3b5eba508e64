// One agent: what it has, its parts, and its erasure.
import { ConfirmByTyping, Empty, Loaded, Stat, Tabs, toast } from "../../components/index.js";
import { api, segments } from "../../core/api.js";
import { dateTime, fromNow, number, shellWord } from "../../core/format.js";
import { html, useState } from "../../core/html.js";
import { useLoad } from "../../core/load.js";
import { go, href, place } from "../../core/router.js";
import { Conversations } from "./conversations.js";
import { Relations } from "./relations.js";
import { State } from "./state.js";
import { Timeline } from "./timeline.js";

const PARTS = { timeline: ["Timeline", Timeline], conversations: ["Conversations", Conversations], relations: ["Relations", Relations], state: ["State", State] };
const WAIT_MS = 500;
const MOST_WAITS = 60;

export function Agent({ agent }) {
  const [, chosen = "timeline"] = place.value.parts;
  const [asking, setAsking] = useState(false);
  const summary = useLoad((signal) => api("GET", segments`/v1/agents/${agent}/summary`, { signal }), [agent]);
  const [, Part] = PARTS[chosen] ?? PARTS.timeline;
  const tabs = Object.entries(PARTS).map(([name, [title]]) => [name, title, href("agents", name === "timeline" ? [agent] : [agent, name])]);
  return html`
    <p><a href=${href("agents")}>Agents</a></p>
    <div class="title">
      <h1>${agent}</h1>
      <div class="actions">
        <a class="button" href=${href("ask", [], { agent })}>Ask</a>
        <a class="button" href=${href("map", [], { agent })}>Map</a>
        <button type="button" onClick=${() => setAsking(true)}>Erase …</button>
      </div>
    </div>
    <${Loaded} of=${summary} label="Loading the summary">
      ${(found) => html`
        <div class="stats">
          <${Stat} name="Memories" value=${number(found.total)} />
          <${Stat} name="Types" value=${number(Object.keys(found.by_type).length)} />
          <${Stat} name="First" value=${dateTime(found.first)} note=${found.first === null ? "" : fromNow(found.first)} />
          <${Stat} name="Last" value=${dateTime(found.last)} note=${found.last === null ? "" : fromNow(found.last)} />
        </div>
        <${Tabs} label="Parts of the agent" tabs=${tabs} chosen=${chosen} />
        ${chosen === "timeline" && !found.total
          ? html`<${Empty} title="This agent has no memories." command=${`lorestream put ${shellWord(agent)} "pine trees stand north of the lake"`}>It may have records or documents. Give it a memory:<//>`
          : html`<${Part} agent=${agent} summary=${found} reload=${summary.reload} />`}`}
    <//>
    ${asking && html`<${Erase} agent=${agent} onClose=${(done) => {
      setAsking(false);
      if (done) go("agents");
    }} />`}`;
}

function Erase({ agent, onClose }) {
  const run = async () => {
    const { erasure_id: id } = await api("DELETE", segments`/v1/agents/${agent}`);
    for (let wait = 0; wait < MOST_WAITS; wait += 1) {
      const { state } = await api("GET", segments`/v1/erasures/${id}`);
      if (state === "done") {
        toast(`Erased: no read shows anything of ${agent} any more`);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    }
    toast(`The erasure of ${agent} is accepted and still running`, "warn");
  };
  return html`
    <${ConfirmByTyping} title="Erase this agent" name=${agent} action="Erase for ever" run=${run} onClose=${onClose}>
      <p>Every memory, record, document and table of this agent is removed, and cannot be brought back. What it is told after that is a new life.</p>
    <//>`;
}
