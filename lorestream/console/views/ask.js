// Ask: a search as an agent makes it, why each memory is found, why another one is not, and the context of a prompt.
import { Copy, Empty, ErrorBox, Field, Loading, Panel, Select, Stat, Toggle } from "../components/index.js";
import { api } from "../core/api.js";
import { decimal } from "../core/format.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/load.js";
import { place, setParams } from "../core/router.js";
import { Context } from "./ask/context.js";
import { copiesOf } from "./ask/copies.js";
import { Found, Legend } from "./ask/found.js";
import { Modes } from "./ask/modes.js";
import { FIELDS, searchOf } from "./ask/request.js";
import { Why } from "./ask/why.js";

const MODES = [["hybrid", "hybrid: meaning and words"], ["dense", "dense: meaning"], ["keyword", "keyword: words"]];
const RARE = ["filters", "x", "y", "z", "r", "rel", "rec", "imp", "half", "normalise", "min", "neighbours", "words", "rerank", "old", "at"];

export function View() {
  const { params } = place.value;
  const asked = useMemo(() => {
    if (!params.agent && params.scope !== "tenant") return null;
    try {
      return { body: searchOf({ ...FIELDS, ...params }) };
    } catch (error) {
      return { error };
    }
  }, [JSON.stringify(params)]);
  return html`
    <h1>Ask</h1>
    <${Form} params=${params} error=${asked?.error} />
    ${asked?.body ? html`<${Answer} body=${asked.body} why=${params.why} />` : !asked && html`<${Empty} title="Whose memories?" command="lorestream agents">Name an agent, and what it is asked. Without a question its newest memories are shown.<//>`}`;
}

function Form({ params, error }) {
  const given = useRef(params);
  const [draft, setDraft] = useState(fieldsOf(params));
  useEffect(() => {
    // What is typed and not asked yet stays while something else in the address changes.
    const [before, now] = [fieldsOf(given.current), fieldsOf(params)];
    given.current = params;
    const changed = Object.entries(now).filter(([name, value]) => value !== before[name]);
    setDraft((last) => ({ ...last, ...Object.fromEntries(changed) }));
  }, [JSON.stringify(params)]);
  const open = useRef(false); // what was opened stays open: a field may be emptied to be written anew
  open.current ||= RARE.some((name) => params[name]);
  const set = (name) => (value) => setDraft((last) => ({ ...last, [name]: value }));
  const submit = (event) => {
    event.preventDefault();
    const changes = Object.fromEntries(Object.entries(draft).map(([name, value]) => [name, value === FIELDS[name] ? null : value]));
    setParams(changes);
  };
  const field = (name, label, more = {}) => html`<${Field} label=${label} value=${draft[name]} onInput=${set(name)} autocomplete="off" ...${more} />`;
  const numeric = { inputmode: "decimal", pattern: "-?[0-9]*[.]?[0-9]*", title: "a number" };
  return html`
    <form class="panel" onSubmit=${submit}>
      <div class="row">
        ${field("agent", "Agent", { placeholder: "npc:smith-1", spellcheck: false, required: draft.scope !== "tenant", disabled: draft.scope === "tenant" })}
        ${field("q", "Question", { type: "search", "data-search": true, class: "grow", placeholder: "where are trees" })}
        <${Select} label="Mode" value=${draft.mode} options=${MODES} onChange=${set("mode")} />
        ${field("k", "Number of memories", { type: "number", min: 1, max: 100, step: 1 })}
        <button type="submit">Ask</button>
      </div>
      <details open=${open.current}>
        <summary>Filters, place, weights</summary>
        <div class="row">
          ${field("type", "Type", { placeholder: "dig", spellcheck: false })}
          ${field("filters", "Filters (JSON)", { placeholder: '{"importance": {"gte": 5}}', spellcheck: false, error: error?.message })}
          ${field("min", "Least score", numeric)}
          ${field("neighbours", "Neighbours, 0 to 1", numeric)}
          ${field("at", "As of (Unix seconds)", numeric)}
        </div>
        <div class="row">
          ${field("x", "Near x", numeric)}${field("y", "y", numeric)}${field("z", "z", numeric)}${field("r", "Radius", numeric)}
        </div>
        <div class="row">
          ${field("rel", "Weight of relevance", numeric)}${field("rec", "Weight of recency", numeric)}
          ${field("imp", "Weight of importance", numeric)}${field("half", "Half-life in seconds", { ...numeric, placeholder: "86400" })}
        </div>
        <div class="row">
          <${Toggle} label="Normalise relevance" checked=${Boolean(draft.normalise)} onChange=${(on) => set("normalise")(on ? "1" : "")} />
          <${Toggle} label="Time words count" checked=${Boolean(draft.words)} onChange=${(on) => set("words")(on ? "1" : "")} />
          <${Toggle} label="Rerank" checked=${Boolean(draft.rerank)} onChange=${(on) => set("rerank")(on ? "1" : "")} />
          <${Toggle} label="Replaced ones too" checked=${Boolean(draft.old)} onChange=${(on) => set("old")(on ? "1" : "")} />
          <${Toggle} label="All agents of the tenant" checked=${draft.scope === "tenant"} onChange=${(on) => set("scope")(on ? "tenant" : "")} />
        </div>
      </details>
    </form>`;
}

/** The fields of the form as the address has them. */
const fieldsOf = (params) => Object.fromEntries(Object.entries(FIELDS).map(([name, empty]) => [name, params[name] ?? empty]));

function Answer({ body, why }) {
  const key = JSON.stringify(body);
  const loaded = useLoad(async (signal) => {
    const began = performance.now();
    const answer = await api("POST", "/v1/memories/search", { body, signal });
    return { ...answer, roundTrip: performance.now() - began };
  }, [key]);
  return html`
    <div class="beside">
      <div>
        <${Panel} title="Answer" actions=${html`<button type="button" class="small" onClick=${loaded.reload}>Ask again</button>`}>
          ${loaded.error ? html`<${ErrorBox} error=${loaded.error} retry=${loaded.reload} />` : !loaded.data ? html`<${Loading} label="Searching" />` : html`
            <div class="stats">
              <${Stat} name="Cache" value=${loaded.data.cache} />
              <${Stat} name="In the service" value=${`${decimal(loaded.data.took_ms, 1)} ms`} />
              <${Stat} name="With the way there" value=${`${decimal(loaded.data.roundTrip, 1)} ms`} />
              <${Stat} name="Found" value=${loaded.data.memories.length} />
            </div>
            ${loaded.data.memories.length ? html`<${Legend} memories=${loaded.data.memories} /><${Found} memories=${loaded.data.memories} weights=${body.weights} />` : html`<${Empty} title="Nothing is found.">Remove a filter, the place or the least score; or ask below why a memory is not found.<//>`}`}
        <//>
        ${body.query && !body.scope && html`<${Modes} body=${body} />`}
        ${!body.scope && html`<${Why} body=${body} id=${why} />`}
      </div>
      <div>
        ${body.agent_id && html`<${Context} agent=${body.agent_id} query=${body.query} filters=${body.filters} />`}
        <${Copies} body=${body} />
      </div>
    </div>`;
}

function Copies({ body }) {
  const copies = useMemo(() => copiesOf(body), [JSON.stringify(body)]);
  const [chosen, setChosen] = useState("curl");
  return html`
    <${Panel} title="The same elsewhere" actions=${html`<${Copy} text=${copies[chosen]} />`}>
      <div class="chips" role="group" aria-label="Language">
        ${Object.keys(copies).map((name) => html`<button type="button" aria-pressed=${name === chosen} onClick=${() => setChosen(name)}>${name}</button>`)}
      </div>
      <pre tabindex="0" aria-label=${chosen}>${copies[chosen]}</pre>
    <//>`;
}
