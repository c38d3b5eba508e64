// An agent's memories over time: their number by type, each as a point once they are few enough, and their list.
import { Chart, ConfirmByTyping, ErrorBox, MemoryDetails, MemoryList, Panel, Progress, toast, Type } from "../../components/index.js";
import { api, lines, segments } from "../../core/api.js";
import { colourOf, dateTime, duration, number } from "../../core/format.js";
import { html, useMemo, useState } from "../../core/html.js";
import { useLoad } from "../../core/load.js";
import { href, numberOf, place, setParams } from "../../core/router.js";
import { countsIn, MOST_POINTS, nearest, stacked, stepFor } from "./counts.js";

const PAGE = 200;

export function Timeline({ agent, summary, reload }) {
  const { from, to, type } = place.value.params;
  const [selected, setSelected] = useState(null);
  const [deleting, setDeleting] = useState(false);
  const [start, end] = range(from, to, summary);
  const step = stepFor(end - start);
  const [counted, setCounted] = useState(0);
  const expected = (type ? (summary.by_type[type] ?? 0) : summary.total) * Math.min(1, (end - start) / Math.max(1, summary.last - summary.first));
  const counts = useLoad((signal) => countsIn(agent, { start, end, step, type, signal, expected, progress: setCounted }), [agent, start, end, type, summary]);
  const total = counts.data?.reduce((sum, each) => sum + each.count, 0);
  const few = !counts.loading && total !== undefined && total <= MOST_POINTS;
  const query = { since: start, until: end, type };
  const read = (cursor) => api("GET", segments`/v1/agents/${agent}/memories`, { query: { ...query, cursor, limit: PAGE } });
  const zoom = (least, most) => setParams({ from: round(least), to: round(most) });
  const width = end - start;
  return html`
    <div class="row">
      <button type="button" onClick=${() => zoom(start - width / 2, end - width / 2)}>◀ Earlier</button>
      <button type="button" onClick=${() => zoom(start + width / 2, end + width / 2)}>Later ▶</button>
      <button type="button" onClick=${() => zoom(start + width / 4, end - width / 4)} disabled=${width < 2}>Closer</button>
      <button type="button" onClick=${() => zoom(start - width / 2, end + width / 2)}>Wider</button>
      <button type="button" onClick=${() => setParams({ from: null, to: null })} disabled=${!from && !to}>All</button>
      <button type="button" onClick=${reload}>Refresh</button>
      <span class="muted">${dateTime(start)} to ${dateTime(end)}; drag over a chart to look closer</span>
    </div>
    <${Types} summary=${summary} chosen=${type} />
    <${Panel} title=${`Memories per ${duration(step)}`}>
      ${counts.loading && html`<${Progress} label="Counting the memories" value=${counted} max="1" />`}
      ${counts.error && html`<${ErrorBox} error=${counts.error} retry=${counts.reload} />`}
      ${counts.data && html`<${Bars} counts=${counts.data} start=${start} end=${end} step=${step} zoom=${zoom} />`}
    <//>
    <${Panel} title="Each memory">
      ${few
        ? html`<${Points} agent=${agent} query=${query} total=${total} start=${start} end=${end} zoom=${zoom} onSelect=${setSelected} selected=${selected?.id} />`
        : html`<p class="muted">${total === undefined ? "Waiting for the counts." : `${number(total)} memories are in this time, and at most ${number(MOST_POINTS)} are drawn: drag over the bars above to look closer.`}</p>`}
    <//>
    <div class="beside">
      <${Panel} title="Newest first">
        <${MemoryList} read=${read} of=${JSON.stringify([agent, query, summary.total])} selected=${selected?.id} onSelect=${setSelected} label="Memories, the newest first" />
      <//>
      <${Panel} title="Memory">
        ${selected
          ? html`<${MemoryDetails} memory=${selected} actions=${html`
              <a class="button" href=${href("ask", [], { agent, why: selected.id })}>Why is it found?</a>
              <button type="button" onClick=${() => setDeleting(true)}>Delete …</button>`} />`
          : html`<p class="muted">Choose a memory in the chart or in the list.</p>`}
      <//>
    </div>
    ${deleting && html`<${Delete} memory=${selected} onClose=${(done) => {
      setDeleting(false);
      if (!done) return;
      setSelected(null);
      reload();
    }} />`}`;
}

const round = (seconds) => Math.round(seconds * 1000) / 1000;

/** The time that is shown, in Unix seconds: what the address says, else all of it. */
function range(from, to, summary) {
  const start = numberOf(from) ?? summary.first;
  const end = numberOf(to) ?? summary.last;
  return end > start ? [start, end] : [start - 30, start + 30];
}

const Types = ({ summary, chosen }) => html`
  <div class="chips" role="group" aria-label="Types">
    <button type="button" aria-pressed=${!chosen} onClick=${() => setParams({ type: null })}>all ${number(summary.total)}</button>
    ${Object.entries(summary.by_type)
      .filter(([name]) => name)
      .map(([name, count]) => html`
        <button type="button" key=${name} aria-pressed=${chosen === name} onClick=${() => setParams({ type: chosen === name ? null : name })}><${Type} name=${name} /> ${number(count)}</button>`)}
  </div>`;

function Bars({ counts, start, end, step, zoom }) {
  const { data, series } = useMemo(() => stacked(counts, start, end, step), [counts]);
  const options = useMemo(() => ({ scales: { x: { time: true, range: () => [start, end] }, y: { range: (_, __, most) => [0, most || 1] } } }), [start, end]);
  const days = useMemo(() => [...new Set(counts.map((each) => each.group))].length, [counts]);
  return html`<${Chart} data=${data} series=${series} options=${options} height=${150} onSelect=${zoom} label=${`Number of memories over time, of ${days} types`} />`;
}

function Points({ agent, query, total, start, end, zoom, onSelect, selected }) {
  const [done, setDone] = useState(0);
  const loaded = useLoad(async (signal) => {
    const found = [];
    for await (const memory of lines("GET", segments`/v1/agents/${agent}/memories`, { query: { ...query, order: "oldest", limit: MOST_POINTS }, signal })) {
      found.push(memory);
      if (found.length % 250 === 0) setDone(found.length);
    }
    return found;
  }, [agent, JSON.stringify(query)]);
  if (loaded.error) return html`<${ErrorBox} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Progress} label="Loading the memories" value=${done} max=${Math.max(1, total)} />`;
  return html`<${Drawn} memories=${loaded.data} start=${start} end=${end} zoom=${zoom} onSelect=${onSelect} selected=${selected} /><${Expiry} memories=${loaded.data} />`;
}

function Drawn({ memories, start, end, zoom, onSelect, selected }) {
  const types = useMemo(() => [...new Set(memories.map((each) => each.type ?? ""))].sort(), [memories]);
  const data = useMemo(() => [memories.map((each) => each.timestamp), memories.map((each) => types.indexOf(each.type ?? ""))], [memories, types]);
  const [near, setNear] = useState(null);
  const options = useMemo(() => {
    const draw = (plot) => {
      const { ctx } = plot;
      ctx.save();
      memories.forEach((memory, index) => {
        const x = plot.valToPos(memory.timestamp, "x", true);
        const y = plot.valToPos(data[1][index], "y", true);
        ctx.globalAlpha = 0.65;
        ctx.fillStyle = colourOf(memory.type);
        ctx.beginPath();
        ctx.arc(x, y, devicePixelRatio * (1.5 + memory.importance * 0.45), 0, 2 * Math.PI);
        ctx.fill();
        if (memory.id === selected) {
          ctx.globalAlpha = 1;
          ctx.lineWidth = 2 * devicePixelRatio;
          ctx.strokeStyle = getComputedStyle(document.documentElement).color;
          ctx.stroke();
        }
      });
      ctx.restore();
    };
    const values = (_, splits) => splits.map((split) => (Number.isInteger(split) ? (types[split] || "no type").slice(0, 12) : ""));
    return {
      scales: { x: { time: true, range: () => [start, end] }, y: { range: () => [-0.7, types.length - 0.3] } },
      axes: [{}, { values, splits: () => types.map((_, index) => index), size: 84 }],
      cursor: { y: false, points: { show: false } },
      hooks: { draw: [draw], setCursor: [(plot) => setNear(nearest(plot, memories, data[1], plot.cursor.left, plot.cursor.top))] },
    };
  }, [memories, types, start, end, selected]);
  return html`
    <${Chart} data=${data} series=${LANES} options=${options} height=${Math.max(110, 40 + types.length * 26)} onSelect=${zoom}
      onClick=${() => near && onSelect(near)} label=${`${memories.length} memories over time, one row for each type`} />
    <p class="muted readout">${near ? `${dateTime(near.timestamp)} ${near.type ?? ""}: ${near.text}` : "Point at a memory to read it, click to choose it."}</p>`;
}

const LANES = [{ paths: () => null, points: { show: false } }];

const LIMITS = [["within an hour", 3600], ["within a day", 86400], ["within a week", 604800], ["later", Infinity]];

/** How many of the memories expire when. */
function Expiry({ memories }) {
  const now = Date.now() / 1000;
  const never = memories.filter((each) => each.expires_at === null).length;
  let least = 0;
  const parts = LIMITS.map(([name, most]) => {
    const count = memories.filter(({ expires_at: at }) => at !== null && at - now > least && at - now <= most).length;
    least = most;
    return [name, count];
  }).filter(([, count]) => count);
  const texts = [...parts.map(([name, count]) => `${number(count)} ${name}`), ...(never ? [`${number(never)} never`] : [])];
  return html`<p class="muted">Of these ${number(memories.length)} memories expire: ${texts.join(", ") || "none"}.</p>`;
}

function Delete({ memory, onClose }) {
  const run = async () => {
    const { token } = await api("DELETE", segments`/v1/memories/${memory.id}`, { query: { agent_id: memory.agent_id } });
    await api("POST", "/v1/memories/search", { body: { agent_id: memory.agent_id, k: 1, after: token, wait_ms: 5000 } });
    toast("The memory is deleted");
  };
  return html`
    <${ConfirmByTyping} title="Delete this memory" name="delete" action="Delete for ever" run=${run} onClose=${onClose}>
      <p class="text">${memory.text}</p>
      <p>It cannot be brought back. There is no update: a new text is a new memory.</p>
    <//>`;
}
