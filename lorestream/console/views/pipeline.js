// Pipeline: the way from an event to an answer, with rates, lag and durations since the page was opened.
import { Chart, Loaded, Panel, Stat, Table, Tag } from "../components/index.js";
import { api } from "../core/api.js";
import { bytes, compact, dateTime, decimal, duration, number } from "../core/format.js";
import { quantile, rate } from "../core/histogram.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/load.js";

const EVERY_S = 2;
const KEPT = 1800;
const WINDOW_S = 60;

// Of the page, not of the view: it goes on when one comes back from another view.
const history = [];

const RATES = {
  gateway: [["accepted", "accepted"], ["rejected", "rejected"], ["refused", "refused"]],
  log: [["records", "records"]],
  worker: [["finished", "finished"], ["dead_letters", "dead letters"], ["skipped", "skipped"]],
  store: [],
  cache: [["hit", "hits"], ["miss", "misses"]],
  query: [["answered", "answers"]],
};
const TITLES = { gateway: "Gateway", log: "Event log", worker: "Workers", store: "Vector store", cache: "Answer cache", query: "Query service" };
const TONES = { ok: "ok", problem: "bad", off: "", elsewhere: "" };
const STATES = { ok: "in order", problem: "problem", off: "off", elsewhere: "other process" };

const line = (label, stroke) => ({ label, stroke, width: 1.5, points: { show: false }, spanGaps: true });
const FLOW = [line("accepted/s", "#3f7fdb"), line("finished/s", "#2f9e6e"), line("answers/s", "#d9822b")];
const LAG = [{ ...line("records behind", "#c2487f"), fill: "#c2487f22" }];
const TIMES = [line("accepted until findable, p95", "#8a63d2"), line("slowest kind of query, p95", "#d9822b")];

export function View() {
  const loaded = useLoad(async (signal) => remember(await api("GET", "/v1/admin/pipeline", { signal })), [], { every: EVERY_S });
  return html`
    <h1>Pipeline</h1>
    <${Loaded} of=${loaded} label="Loading the state of the parts">${(now) => html`<${State} now=${now} />`}<//>`;
}

function remember(answer) {
  const last = history.at(-1);
  if (last && last.service !== answer.service) history.length = 0;
  else if (last && answer.at - last.at < EVERY_S / 4) history.pop(); // a difference over so short a time says nothing
  history.push(answer);
  if (history.length > KEPT) history.shift();
  return answer;
}

function State({ now }) {
  const before = [...history].reverse().find((each) => each.at <= now.at - WINDOW_S) ?? history[0];
  const last = history.length > 1 ? history.at(-2) : undefined;
  const worst = now.parts.filter((each) => each.state === "problem");
  return html`
    <div class="stats">
      <${Stat} name="Records behind" value=${number(now.lag_records)} tone=${now.lag_records > 1000 ? "warn" : undefined} />
      <${Stat} name="Oldest unfinished record" value=${now.lag_seconds === 0 ? "none" : duration(now.lag_seconds)} tone=${now.lag_seconds > 60 ? "bad" : undefined} />
      <${Stat} name="Parts with a problem" value=${worst.length} tone=${worst.length ? "bad" : "ok"} note=${worst.map((each) => TITLES[each.name]).join(", ")} />
      <${Stat} name="As of" value=${dateTime(now.at).slice(11)} note=${`every ${EVERY_S} s, from ${now.service}`} />
    </div>
    <ol class="flow" aria-label="The way from an event to an answer">
      ${now.parts.map((part, index) => html`<${Part} key=${part.name} part=${part} seconds=${last && now.at - last.at} last=${partOf(last, index)} />`)}
    </ol>
    <${Charts} />
    <div class="columns">
      <${Durations} now=${now} before=${before} />
      <${Partitions} rows=${now.partitions} />
    </div>`;
}

const partOf = (answer, index) => answer?.parts[index];

const Part = ({ part, last, seconds }) => html`
  <li class="panel part" data-state=${part.state}>
    <header><h2>${TITLES[part.name]}</h2><${Tag} tone=${TONES[part.state]}>${STATES[part.state]}<//></header>
    <p class="muted">${part.kind}</p>
    ${part.note && html`<p class=${part.state === "problem" ? "bad" : "muted"}>${part.note}</p>`}
    <dl class="facts">
      ${RATES[part.name]
        .filter(([name]) => part.counters[name] !== undefined)
        .map(([name, text]) => {
          const risen = rate(last?.counters[name], part.counters[name], seconds);
          return html`<dt>${text}</dt><dd>${risen === null ? "–" : `${decimal(risen, 1)}/s`} <span class="muted">${compact(part.counters[name])}</span></dd>`;
        })}
      ${Object.entries(part.gauges).map(([name, value]) => html`<dt>${name}</dt><dd>${name === "bytes" ? bytes(value) : number(value)}</dd>`)}
    </dl>
  </li>`;

function Charts() {
  if (history.length < 2) return html`<p class="muted">Charts of rates, lag and durations appear with the next answer.</p>`;
  const of = (answer, name) => answer.parts.find((each) => each.name === name);
  const pairs = history.slice(1).map((now, index) => [history[index], now]);
  const at = pairs.map(([, now]) => now.at);
  const rates = (name, counter) =>
    pairs.map(([before, now]) => rate(of(before, name).counters[counter], of(now, name).counters[counter], now.at - before.at));
  const slowest = (part, wanted) =>
    pairs.map(([before, now]) => {
      const earlier = Object.fromEntries(of(before, part).timings.map((each) => [each.stage, each.buckets]));
      const found = of(now, part).timings.filter(wanted).map((each) => quantile(0.95, each.buckets, earlier[each.stage]));
      const known = found.filter((each) => each !== null);
      return known.length ? Math.max(...known) * 1000 : null;
    });
  const findable = slowest("worker", (each) => each.stage === FINDABLE);
  const answered = slowest("query", (each) => each.stage.endsWith(WHOLE));
  return html`
    <div class="columns">
      <${Panel} title="Per second" level=${3}><${Legend} of=${FLOW} /><${Chart} series=${FLOW} label="Accepted, finished and answered per second since the page was opened"
        data=${[at, rates("gateway", "accepted"), rates("worker", "finished"), rates("query", "answered")]} /><//>
      <${Panel} title="Records behind" level=${3}><${Legend} of=${LAG} /><${Chart} series=${LAG} label="Records behind since the page was opened" data=${[at, pairs.map(([, now]) => now.lag_records)]} /><//>
      <${Panel} title="Durations, milliseconds" level=${3}><${Legend} of=${TIMES} /><${Chart} series=${TIMES} label="95th percentiles since the page was opened" data=${[at, findable, answered]} /><//>
    </div>`;
}

const FINDABLE = "accepted until findable";
const WHOLE = ", whole";

const Legend = ({ of }) => html`
  <p class="legend">${of.map((each) => html`<span class="type"><i style=${{ background: each.stroke }} aria-hidden="true"></i>${each.label}</span>`)}</p>`;

function Durations({ now, before }) {
  const rows = now.parts.flatMap((part, index) => {
    const earlier = Object.fromEntries((before?.parts[index]?.timings ?? []).map((each) => [each.stage, each]));
    return part.timings.map((each) => ({
      ...each,
      part: TITLES[part.name],
      lately: before === now ? null : quantile(0.95, each.buckets, earlier[each.stage]?.buckets),
    }));
  });
  const columns = [
    { key: "part", title: "Part", value: (row) => row.part },
    { key: "stage", title: "Stage", value: (row) => row.stage },
    { key: "count", title: "Count", align: "right", value: (row) => row.count, render: (row) => number(row.count) },
    { key: "p50", title: "p50", align: "right", value: (row) => row.p50_s, render: (row) => duration(row.p50_s) },
    { key: "p95", title: "p95", align: "right", value: (row) => row.p95_s, render: (row) => duration(row.p95_s) },
    { key: "lately", title: "p95, last minute", align: "right", value: (row) => row.lately, render: (row) => duration(row.lately) },
  ];
  return html`
    <${Panel} title="Durations of the stages">
      ${rows.length ? html`<${Table} caption="Durations of the stages" columns=${columns} rows=${rows} keyOf=${(row) => `${row.part} ${row.stage}`} />` : html`<p class="muted">Nothing was measured in this process yet.</p>`}
    <//>`;
}

function Partitions({ rows }) {
  const columns = [
    { key: "partition", title: "Partition", align: "right", value: (row) => row.partition },
    { key: "end", title: "Records", align: "right", value: (row) => row.end, render: (row) => number(row.end) },
    { key: "behind", title: "Behind", align: "right", value: (row) => row.behind, render: (row) => number(row.behind) },
    { key: "owner", title: "Read by", value: (row) => row.owner ?? "", render: (row) => row.owner ?? html`<span class="warn">nobody</span>` },
  ];
  return html`
    <${Panel} title="Partitions of the log">
      ${rows.length ? html`<${Table} caption="Partitions" columns=${columns} rows=${rows} keyOf=${(row) => row.partition} />` : html`<p class="muted">The log does not answer.</p>`}
    <//>`;
}
