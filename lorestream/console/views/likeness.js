// Likeness: memories as points that lie close together when their vectors are alike; a line drawn around some lists them.
import { Empty, Field, Loaded, Panel, Select, Table, Type } from "../components/index.js";
import { api } from "../core/api.js";
import { colourOf, dateTime, fromNow, number } from "../core/format.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/html.js";
import { useLoad, useSettled } from "../core/load.js";
import { href, numberOf, place, setParams } from "../core/router.js";
import { box, draw, projection, within } from "../core/scatter.js";

const LIMITS = ["500", "1000", "2000", "5000"];
const LISTED = 200;
const COLOURED = ["type", "agent", "age"];
const AGES = [[3600, "last hour", "#c8553d"], [86400, "last day", "#d9822b"], [604800, "last week", "#2f9e6e"], [Infinity, "older", "#3f7fdb"]];
const ageOf = (point, now) => AGES.find(([seconds]) => now - point.timestamp < seconds) ?? AGES.at(-1);

export function View() {
  const { agent = "", type = "", limit = "1000" } = place.value.params;
  const by = COLOURED.includes(place.value.params.by) ? place.value.params.by : "type";
  const asked = useSettled(JSON.stringify({ ...(agent ? { agent_id: agent } : { scope: "tenant" }), ...(type && { type }), limit: numberOf(limit) }));
  const loaded = useLoad((signal) => api("POST", "/v1/memories/likeness", { body: JSON.parse(asked), signal }), [asked]);
  return html`
    <h1>Likeness</h1>
    <div class="row">
      <${Field} label="Agent" type="search" data-search value=${agent} onInput=${(text) => setParams({ agent: text })} placeholder="all agents" spellcheck=${false} />
      <${Field} label="Type" type="search" value=${type} onInput=${(text) => setParams({ type: text })} placeholder="all types" spellcheck=${false} />
      <${Select} label="Newest" value=${limit} options=${LIMITS} onChange=${(value) => setParams({ limit: value })} />
      <${Select} label="Colour by" value=${by} options=${COLOURED} onChange=${(value) => setParams({ by: value })} />
    </div>
    <${Loaded} of=${loaded} label="Reading vectors and computing the map">
      ${(found) => {
        if (!found.points.length) return html`<${Empty} title="Nothing to map." command=${agent || type ? undefined : "lorestream demo"}>${agent || type ? "No memory matches: check the agent's id and the type." : "Play a small village into this service:"}<//>`;
        return html`<${Likeness} key=${asked} found=${found} by=${by} />`;
      }}
    <//>`;
}

function Likeness({ found, by }) {
  const now = useMemo(() => Date.now() / 1000, [found]);
  const [chosen, setChosen] = useState(null);
  const [view, setView] = useState(() => box(found.points));
  const nameOf = { type: (each) => each.type, agent: (each) => each.agent_id, age: (each) => ageOf(each, now)[1] }[by];
  const colour = by === "age" ? (each) => ageOf(each, now)[2] : (each) => colourOf(nameOf(each));
  const listed = chosen ? found.points.filter((each) => chosen.has(each.id)) : found.points;
  const names = by === "age" ? AGES.map(([, name, tone]) => [name, tone]) : [...new Set(found.points.map(nameOf))].slice(0, 24).map((name) => [name, colourOf(name)]);
  const whole = () => {
    setView(box(found.points));
    setChosen(null);
  };
  const columns = [
    { key: "text", title: "Memory", wide: true, value: (row) => row.text },
    { key: "type", title: "Type", value: (row) => row.type, render: (row) => html`<${Type} name=${row.type} />` },
    { key: "agent_id", title: "Agent", value: (row) => row.agent_id, render: (row) => html`<a href=${href("agents", [row.agent_id])}>${row.agent_id}</a>` },
    { key: "timestamp", title: "When", value: (row) => row.timestamp, render: (row) => html`<span title=${dateTime(row.timestamp)}>${fromNow(row.timestamp)}</span>` },
  ];
  const [first, second] = found.explained;
  return html`
    <p class="muted">${number(found.points.length)} of ${number(found.total)} memories. Close together means alike; the two axes show ${Math.round(100 * (first + second))} % of what distinguishes their vectors, so some that look close are not.</p>
    <p class="legend">${names.map(([name, tone]) => html`<span class="type"><i style=${{ background: tone }} aria-hidden="true"></i>${name || "none"}</span>`)}</p>
    <div class="beside">
      <${Panel} title="Draw a line around points to list them"
        actions=${html`
          <button type="button" class="small" disabled=${!chosen?.size} onClick=${() => setView(box(listed))}>Zoom to them</button>
          <button type="button" class="small" onClick=${whole}>Show all</button>`}>
        <${Scatter} points=${found.points} colour=${colour} by=${by} chosen=${chosen} view=${view} onChoose=${setChosen} />
      <//>
      <${Panel} title=${chosen ? `${number(listed.length)} chosen` : "The newest"}>
        <${Table} caption="Memories" columns=${columns} rows=${listed.slice(0, LISTED)} keyOf=${(row) => `${row.agent_id} ${row.id}`} />
        ${listed.length > LISTED && html`<p class="muted">${number(LISTED)} of ${number(listed.length)} are listed.</p>`}
      <//>
    </div>`;
}

function Scatter({ points, colour, by, chosen, view, onChoose }) {
  const canvas = useRef(null);
  const line = useRef([]);
  const paint = useRef(null);
  paint.current = () => {
    if (!canvas.current) return;
    const lineColour = getComputedStyle(canvas.current).color;
    draw(canvas.current, { points, colour, chosen, line: line.current, view, lineColour });
  };
  useEffect(() => paint.current(), [points, by, chosen, view]);
  useEffect(() => {
    const resized = new ResizeObserver(() => paint.current());
    resized.observe(canvas.current);
    return () => resized.disconnect();
  }, []);
  const at = (event) => projection(view, canvas.current.clientWidth, canvas.current.clientHeight).toPlace([event.offsetX, event.offsetY]);
  const begin = (event) => {
    canvas.current.setPointerCapture(event.pointerId);
    line.current = [at(event)];
  };
  const draws = (event) => {
    if (!line.current.length) return;
    line.current.push(at(event));
    paint.current();
  };
  const end = () => {
    const drawn = line.current;
    line.current = [];
    if (drawn.length > 2) onChoose(new Set(points.filter((each) => within(each, drawn)).map((each) => each.id)));
    else onChoose(null);
  };
  return html`
    <canvas ref=${canvas} class="scatter" role="img" aria-label=${`${points.length} memories by their likeness; the table beside lists them`}
      onPointerDown=${begin} onPointerMove=${draws} onPointerUp=${end} onPointerCancel=${end}></canvas>`;
}
