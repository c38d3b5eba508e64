// Map: where memories are, seen from above, with those of the last minutes, and what is remembered at a place.
import { Empty, ErrorBox, Field, Loading, MemoryDetails, Panel, Select, Stat } from "../components/index.js";
import { api } from "../core/api.js";
import { dateTime, decimal, number } from "../core/format.js";
import { html, useMemo, useState } from "../core/html.js";
import { useLoad, useSettled } from "../core/load.js";
import { href, numberOf, place, setParams } from "../core/router.js";
import { MapCanvas } from "./map/canvas.js";
import { cellFor, FIRST_CELL, RECENT_S, scopeOf, SINCE } from "./map/request.js";

const CELLS = ["", "1", "4", "16", "64", "256", "1024"].map((cell) => [cell, cell ? `${cell} nodes` : "by the extent"]);
const EVERY_S = 10;

export function View() {
  const { params } = place.value;
  const { agent = "", type = "", cell = "", since = "" } = params;
  const [low, high] = [useSettled(params.low ?? ""), useSettled(params.high ?? "")];
  const common = useMemo(() => scopeOf(agent), [agent]);
  const heat = useLoad(async (signal) => {
    const from = SINCE.find(([name]) => name === since)?.[2];
    const body = { ...common, type: type || undefined, y_from: numberOf(low), y_to: numberOf(high), since: from ? Date.now() / 1000 - from : undefined };
    const ask = (size) => api("POST", "/v1/memories/places", { body: { ...body, cell: size }, signal });
    const first = numberOf(cell) ?? FIRST_CELL;
    const found = await ask(first);
    const best = cell || !found.bounds ? first : cellFor(found.bounds);
    return { ...(best === first ? found : await ask(best)), cell: best };
  }, [agent, type, cell, since, low, high]);
  const recent = useLoad((signal) => {
    const filters = { timestamp: { gte: Date.now() / 1000 - RECENT_S }, ...(type ? { type } : {}) };
    return api("POST", "/v1/memories/search", { body: { ...common, k: 100, filters }, signal });
  }, [agent, type], { every: EVERY_S });
  return html`
    <h1>Map</h1>
    <${Form} params=${params} bounds=${heat.data?.bounds} />
    ${heat.error ? html`<${ErrorBox} error=${heat.error} retry=${heat.reload} />` : !heat.data ? html`<${Loading} label="Counting memories by place" />` : html`
      ${!heat.data.total ? html`<${Empty} title="No memory here has a position." command="lorestream demo">An event with <code>pos</code> is on the map. Show all heights, types and times, or play a small village:<//>` : html`
        <div class="beside">
          <${Panel} title="Seen from above: x to the right, z upwards">
            <p class="muted">${["x", "y", "z"].filter((axis) => heat.data.bounds[axis]).map((axis) => `${axis} from ${decimal(heat.data.bounds[axis][0], 0)} to ${decimal(heat.data.bounds[axis][1], 0)}`).join(", ")}</p>
            <${MapCanvas} heat=${heat.data} recent=${recent.data?.memories ?? []} circle=${circleOf(params)} onCircle=${(circle) => setParams(circle)} />
          <//>
          <div>
            <div class="stats">
              <${Stat} name="Memories with a position" value=${number(heat.data.total)} />
              <${Stat} name="Cells" value=${number(heat.data.cells)} note=${`of ${number(heat.data.cell)} nodes`} />
              <${Stat} name=${`Last ${RECENT_S / 60} minutes`} value=${recent.data ? number(recent.data.memories.filter((each) => each.pos).length) : "…"} />
            </div>
            <${There} common=${common} circle=${circleOf(params)} params=${params} low=${low} high=${high} />
          </div>
        </div>`}`}`;
}

/** The circle that the address names, or null: {x, z, r}. */
function circleOf(params) {
  const [x, z] = [numberOf(params.x), numberOf(params.z)];
  return x === undefined || z === undefined ? null : { x, z, r: numberOf(params.r) ?? 8 };
}

function Form({ params, bounds }) {
  const set = (name) => (value) => setParams({ [name]: value });
  const [least, most] = bounds?.y ?? [-64, 64];
  const [from, to] = [Math.floor(Math.min(least, numberOf(params.low) ?? least)), Math.ceil(Math.max(most, numberOf(params.high) ?? most))];
  const height = (name, label, other) => html`
    <${Field} label=${`${label}: ${params[name] ?? "any"}`} type="range" min=${from} max=${to} step="1" value=${params[name] ?? other} onInput=${set(name)} />`;
  return html`
    <div class="row">
      <${Field} label="Agent" data-search value=${params.agent ?? ""} onInput=${set("agent")} placeholder="all of the tenant" autocomplete="off" spellcheck=${false} />
      <${Field} label="Type" value=${params.type ?? ""} onInput=${set("type")} placeholder="all" autocomplete="off" spellcheck=${false} />
      <${Select} label="Time" value=${params.since ?? ""} options=${SINCE} onChange=${set("since")} />
      <${Select} label="Cell" value=${params.cell ?? ""} options=${CELLS} onChange=${set("cell")} />
      ${height("low", "Not below y", from)}${height("high", "Not above y", to)}
      <button type="button" onClick=${() => setParams({ low: null, high: null })}>All heights</button>
    </div>`;
}

function There({ common, circle, params, low, high }) {
  const [selected, setSelected] = useState(null);
  const loaded = useLoad((signal) => {
    if (!circle) return null;
    const [gte, lte] = [numberOf(low), numberOf(high)];
    const filters = { ...(params.type ? { type: params.type } : {}), ...(gte === undefined && lte === undefined ? {} : { "pos.y": { gte, lte } }) };
    const near = { x: circle.x, z: circle.z, radius: circle.r };
    return api("POST", "/v1/memories/search", { body: { ...common, k: 100, near, filters }, signal });
  }, [JSON.stringify([common, circle, params.type, low, high])]);
  if (!circle) return html`<${Panel} title="A place"><p class="muted">Click the map to see what is remembered there. With “Draw a circle”, drag from its centre.</p><//>`;
  const ask = href("ask", [], { agent: params.agent, scope: params.agent ? null : "tenant", x: circle.x, z: circle.z, r: circle.r, type: params.type });
  return html`
    <${Panel} title=${`Within ${decimal(circle.r, 1)} nodes of ${decimal(circle.x, 1)}, ${decimal(circle.z, 1)}`}
      actions=${html`<a class="button" href=${ask}>Ask about this place</a><button type="button" class="small" onClick=${() => setParams({ x: null, z: null, r: null, y: null })}>Clear</button>`}>
      ${loaded.error ? html`<${ErrorBox} error=${loaded.error} retry=${loaded.reload} />` : !loaded.data ? html`<${Loading} label="Reading" />` : html`
        <p class="muted">${loaded.data.memories.length === 100 ? "The newest 100 memories." : `${loaded.data.memories.length} memories.`}</p>
        <ul class="plain">
          ${loaded.data.memories.map((each) => html`
            <li key=${each.id}><button type="button" class="line two" aria-pressed=${selected?.id === each.id} onClick=${() => setSelected(selected?.id === each.id ? null : each)}>
              <span class="when">${dateTime(each.timestamp)}</span><span class="text">${each.text}</span></button>
              ${selected?.id === each.id && html`<${MemoryDetails} memory=${each} />`}</li>`)}
        </ul>`}
    <//>`;
}
