// Live: memories as they become findable, the newest first.
import { Chart, Empty, ErrorBox, Field, Panel, Rows, Stat, Tag, toast, Type } from "../components/index.js";
import { duration, number } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { serverEvents } from "../core/live.js";
import { useSettled } from "../core/load.js";
import { href, place, setParams } from "../core/router.js";

const KEPT = 10_000;
const DRAWN_MS = 250;
const RETRY_MS = 2000;
const RATE_S = 120;
const ROW_HEIGHT = 28;
const RATE = [{ label: "per second", stroke: "#2f9e6e", fill: "#2f9e6e33", width: 1.5, points: { show: false } }];

export function View() {
  const { agent = "", type = "", player = "", words = "" } = place.value.params;
  const asked = useSettled(JSON.stringify({ agent_id: agent, type, player }));
  const stream = useStream(asked);
  const { rows, held, state, error, paused } = stream;
  const wanted = words.toLowerCase();
  const shown = wanted ? rows.filter((row) => `${row.text} ${row.agent_id} ${row.type}`.toLowerCase().includes(wanted)) : rows;
  const seconds = rows.slice(0, 500).map((row) => row.seen - row.accepted_at).sort((a, b) => a - b);
  const at = (share) => (seconds.length ? Math.max(0, seconds[Math.floor(share * (seconds.length - 1))]) : null);
  return html`
    <h1>Live</h1>
    <div class="row">
      <${Field} label="Agent" value=${agent} onInput=${(text) => setParams({ agent: text })} placeholder="all agents" spellcheck=${false} />
      <${Field} label="Type" value=${type} onInput=${(text) => setParams({ type: text })} placeholder="all types" spellcheck=${false} />
      <${Field} label="Player" value=${player} onInput=${(text) => setParams({ player: text })} placeholder="all players" spellcheck=${false} />
      <${Field} label="Words" type="search" data-search value=${words} onInput=${(text) => setParams({ words: text })} placeholder="in the lines below" />
      <div class="actions">
        <button type="button" aria-pressed=${paused} onClick=${stream.pause}>${paused ? `Go on (${number(held)} new)` : "Pause"}</button>
        <button type="button" onClick=${stream.clear} disabled=${!rows.length}>Clear</button>
        <${Tag} tone=${{ open: "ok", waiting: "warn" }[state]}>${{ open: paused ? "paused" : "listening", waiting: "connecting" }[state]}<//>
      </div>
    </div>
    ${error && html`<${ErrorBox} error=${error} retry=${stream.again} />`}
    <div class="stats">
      <${Stat} name="Seen" value=${number(stream.total)} note=${stream.total > KEPT ? `the last ${number(KEPT)} are kept` : "since the page was opened"} />
      <${Stat} name="Per second" value=${number(Math.round(stream.perSecond * 10) / 10)} note="over the last 10 s" />
      <${Stat} name="Accepted until seen here, half" value=${duration(at(0.5))} note="by this computer's clock" />
      <${Stat} name="95 of 100" value=${duration(at(0.95))} note=${`of the last ${seconds.length}`} />
    </div>
    <${Panel} title="Memories per second" level=${3}><${Chart} series=${RATE} data=${stream.rate} height=${120} label="Memories per second in the last two minutes" /><//>
    ${shown.length
      ? html`<${Panel}><${Rows} rows=${shown} height=${ROW_HEIGHT} keyOf=${(row) => row.number} label="Memories as they become findable" render=${Line} /><//>`
      : html`<${Empty} title=${rows.length ? "No line has these words." : "Waiting for memories."} command=${rows.length || agent || type || player ? undefined : "lorestream simulate --servers 2 --agents 10 --rate 20 --seconds 60"}>${rows.length ? null : "What becomes findable from now on appears here."}<//>`}`;
}

const Line = (row) => html`
  <time>${new Date(row.accepted_at * 1000).toLocaleTimeString("en-GB")}</time>
  <span class="took">${duration(Math.max(0, row.seen - row.accepted_at))}</span>
  <a href=${href("agents", [row.agent_id])}>${row.agent_id}</a>
  <${Type} name=${row.type} />
  <span class="text" title=${row.text}>${row.text}</span>`;

/** The stream for a filter, another one begins anew: rows with `number` and `seen` (Unix seconds), drawn four times a second at most. */
function useStream(asked) {
  const kept = useRef(null);
  if (kept.current?.asked !== asked) kept.current = { asked, rows: [], fresh: [], total: 0, counts: new Map() };
  const [view, setView] = useState({ rows: [], held: 0, state: "waiting", error: null, total: 0 });
  const [paused, setPaused] = useState(false);
  const [turn, setTurn] = useState(0);
  const isPaused = useRef(false);
  isPaused.current = paused;
  const show = () => {
    const all = kept.current;
    if (!isPaused.current && all.fresh.length) {
      all.rows = [...all.fresh.reverse(), ...all.rows].slice(0, KEPT);
      all.fresh = [];
    }
    setView((last) => ({ ...last, rows: all.rows, held: all.fresh.length, total: all.total, drawn: Date.now() }));
  };
  useEffect(() => {
    const abort = new AbortController();
    show();
    setView((last) => ({ ...last, state: "waiting", error: null }));
    follow(asked, abort.signal, kept.current, (change) => setView((last) => ({ ...last, ...change })));
    return () => abort.abort();
  }, [asked, turn]);
  useEffect(() => {
    const timer = setInterval(show, DRAWN_MS);
    return () => clearInterval(timer);
  }, []);
  useEffect(show, [paused]);
  const now = Math.floor(Date.now() / 1000);
  const times = Array.from({ length: RATE_S }, (_, index) => now - RATE_S + index);
  const counts = times.map((second) => kept.current.counts.get(second) ?? 0);
  return {
    ...view,
    paused,
    rate: [times, counts],
    perSecond: counts.slice(-10).reduce((sum, each) => sum + each, 0) / 10,
    pause: () => setPaused((last) => !last),
    again: () => setTurn((last) => last + 1),
    clear: () => {
      kept.current.rows = [];
      kept.current.fresh = [];
      show();
    },
  };
}

/** Read the stream until `signal` ends it. After a break it goes on behind the last event; a refusal ends it. */
async function follow(asked, signal, kept, change) {
  const place = { id: undefined };
  while (!signal.aborted) {
    try {
      const query = JSON.parse(asked);
      const events = serverEvents({ query, place, signal, opened: () => change({ state: "open", error: null }) });
      for await (const { event, data } of events) {
        if (event === "memory") take(kept, data);
        if (event === "lost") toast(`The log had already deleted ${number(data.records)} records before they could be shown`, "warn");
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.code === "invalid_token") place.id = undefined; // the log was replaced: go on with what comes now
      else if (error.status >= 400 && error.status < 500 && error.status !== 429) {
        change({ state: "waiting", error });
        return;
      }
    }
    if (signal.aborted) return;
    change({ state: "waiting" });
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function take(kept, memory) {
  const seen = Date.now() / 1000;
  kept.total += 1;
  kept.fresh.push({ ...memory, seen, number: kept.total });
  if (kept.fresh.length > KEPT) kept.fresh.splice(0, kept.fresh.length - KEPT);
  const second = Math.floor(seen);
  kept.counts.set(second, (kept.counts.get(second) ?? 0) + 1);
  for (const old of kept.counts.keys()) {
    if (old >= second - RATE_S) break;
    kept.counts.delete(old);
  }
}
