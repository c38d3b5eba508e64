// Memories: a list of any length that is read page by page while it is scrolled, and all fields of one memory.
import { dateTime, decimal, fromNow, number } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { href } from "../core/router.js";
import { Copy, Empty, ErrorBox, Loading, Type } from "./parts.js";

const PAGES_SHOWN = 5;

/**
 * `read(cursor)`: a page {memories, next_cursor, total}; `of`: what the list is of: another value starts anew. At most PAGES_SHOWN pages are in the document: those that are scrolled out are dropped, and read again with
 * their cursors when they are scrolled back to. `onSelect(memory)`; `selected`: an id. The list is one stop of the Tab
 * key, because a list that grows while one goes through it would never be left; the arrows go from line to line.
 */
export function MemoryList({ read, of, selected, onSelect, label }) {
  const [state, setState] = useState(START);
  const box = useRef(null);
  const turn = useRef(0);
  const load = async (index, began) => {
    if (began.loading) return;
    const mine = turn.current;
    setState({ ...began, loading: true, error: null });
    try {
      const page = await read(began.cursors[index]);
      if (mine !== turn.current) return;
      setState((last) => placed(last, index, page));
    } catch (error) {
      if (mine === turn.current) setState((last) => ({ ...last, loading: false, error }));
    }
  };
  useEffect(() => {
    turn.current += 1;
    setState(START);
    box.current?.scrollTo(0, 0);
    load(0, START);
    return () => {
      turn.current += 1;
    };
  }, [of]);
  const first = state.pages[0]?.index ?? 0;
  const last = state.pages.at(-1)?.index ?? -1;
  const more = last >= 0 && state.cursors[last + 1] !== null;
  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    if (more && scrollHeight - scrollTop - clientHeight < AHEAD) load(last + 1, state);
    else if (first > 0 && scrollTop < AHEAD) {
      // Browsers keep what is seen in its place while a page is added above it, except at the very top.
      if (scrollTop === 0) box.current.scrollTop = 1;
      load(first - 1, state);
    }
  };
  useEffect(() => {
    if (box.current && more && !state.loading && !state.error && box.current.scrollHeight <= box.current.clientHeight) load(last + 1, state);
  });
  const memories = state.pages.flatMap((page) => page.memories);
  if (state.total !== null && !state.loading && !state.error && !memories.length) return html`<${Empty} title="No memories here." />`;
  const entry = memories.some((each) => each.id === selected) ? selected : memories[0]?.id;
  return html`
    <div class="list" ref=${box} onScroll=${scrolled} onKeyDown=${toLine} tabindex="0" role="region" aria-label=${label} data-first=${first} data-last=${last}>
      <ul>
        ${memories.map((each) => html`<${Line} key=${each.id} memory=${each} selected=${each.id === selected} entry=${each.id === entry} onSelect=${onSelect} />`)}
      </ul>
      ${state.loading && html`<${Loading} label="Loading memories" />`}
      ${state.error && html`<${ErrorBox} error=${state.error} retry=${() => load(last + 1, { ...state, loading: false })} />`}
    </div>
    <p class="muted">${state.total === null ? "" : `${number(state.total)} memories${first > 0 || more ? `; pages ${first + 1} to ${last + 1} are shown` : ""}`}</p>`;
}

const START = { pages: [], cursors: [undefined], total: null, loading: false, error: null };
const AHEAD = 600;

/** The state with one more page before or behind those that are shown. */
function placed(state, index, page) {
  const shown = { index, memories: page.memories };
  const cursors = [...state.cursors];
  cursors[index + 1] = page.next_cursor;
  const before = state.pages[0] && index < state.pages[0].index;
  const pages = before ? [shown, ...state.pages].slice(0, PAGES_SHOWN) : [...state.pages, shown].slice(-PAGES_SHOWN);
  return { pages, cursors, total: page.total, loading: false, error: null };
}

/** Move the focus to the line above or below. */
function toLine(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const line = step && event.target.closest("li");
  if (!line) return;
  event.preventDefault();
  line[step]?.querySelector("button").focus();
}

const Line = ({ memory, selected, entry, onSelect }) => html`
  <li class=${selected ? "selected" : ""}>
    <button type="button" class="line" tabindex=${entry ? 0 : -1} aria-pressed=${selected} onClick=${() => onSelect(memory)}>
      <span class="when">${dateTime(memory.timestamp)}</span>
      <${Type} name=${memory.type} />
      <span class="text">${memory.text || JSON.stringify(memory.metadata)}</span>
    </button>
  </li>`;

/** All fields of a memory. `actions`: buttons below them. */
export const MemoryDetails = ({ memory, actions }) => {
  const { pos } = memory;
  const rows = [
    ["Agent", html`<a href=${href("agents", [memory.agent_id])}>${memory.agent_id}</a>`],
    ["Type", html`<${Type} name=${memory.type} />`],
    ["Time", `${dateTime(memory.timestamp)} (${fromNow(memory.timestamp)})`],
    ["Accepted", dateTime(memory.accepted_at)],
    ["Expires", memory.expires_at === null ? "never" : `${dateTime(memory.expires_at)} (${fromNow(memory.expires_at)})`],
    ["Importance", decimal(memory.importance, 1)],
    ["Position", pos && html`<a href=${href("map", [], { agent: memory.agent_id, x: pos.x, y: pos.y, z: pos.z })}>${["x", "y", "z"].map((axis) => decimal(pos[axis], 1)).join(", ")}</a>`],
    ["Tick", memory.tick],
    ["Server", memory.server],
    ["Player", memory.player],
    ["About", memory.about?.join(", ")],
    ["Replaces", memory.supersedes],
    ["Replaced by", memory.superseded_by],
    ["Rests on", memory.sources?.join(", ")],
    ["Id", html`<code>${memory.id}</code> <${Copy} text=${memory.id} />`],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`
    <div class="details">
      <p class="text">${memory.text}</p>
      ${memory.truncated && html`<p class="warn">The model has read only the beginning of this text.</p>`}
      <dl>${rows.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>
      ${Object.keys(memory.metadata ?? {}).length > 0 && html`<pre tabindex="0" aria-label="Metadata">${JSON.stringify(memory.metadata, null, 2)}</pre>`}
      ${actions && html`<div class="actions">${actions}</div>`}
    </div>`;
};
