// The numbers behind the timeline.
import { api, segments } from "../../core/api.js";
import { colourOf } from "../../core/format.js";

/** The most memories that are drawn one by one. */
export const MOST_POINTS = 5000;

const STEPS = [1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000];
const MOST_BARS = 160;
const MOST_HALVES = 8;
/** About as many memories are counted in one request, so that each is short and the progress is seen. */
const COUNTED_AT_ONCE = 5_000;
const SPLIT = new Set(["too_many_records", "overloaded"]);

/** The width of a bar in seconds, so that a time of `seconds` has at most MOST_BARS bars. */
export const stepFor = (seconds) => STEPS.find((step) => seconds / step <= MOST_BARS) ?? STEPS.at(-1);

/**
 * The number of memories for each bar and type: [{start, group, count}]. `expected`: about how many there are;
 * `progress(part)`: called with 0 to 1.
 */
export async function countsIn(agent, { start, end, step, type, signal, expected, progress }) {
  const parts = Math.max(1, Math.ceil(expected / COUNTED_AT_ONCE));
  const found = [];
  let from = start;
  for (let part = 1; part <= parts && from <= end; part += 1) {
    progress((part - 1) / parts);
    // A part ends before a bar begins, so that none is counted in two parts.
    const next = part === parts ? Infinity : Math.ceil((start + ((end - start) * part) / parts) / step) * step;
    found.push(...(await countsWithin(agent, { start: from, end: Math.min(end, next - 1e-6), step, type, signal })));
    from = next;
  }
  return found;
}

/** The same in one request. Where the service refuses to count so many at once, the time is halved. */
async function countsWithin(agent, { start, end, step, type, signal }, halves = 0) {
  const body = { field: "importance", every_s: step, since: start, until: end, group_by: "type", type: type || undefined };
  try {
    return (await api("POST", segments`/v1/agents/${agent}/aggregate`, { body, signal })).buckets;
  } catch (error) {
    const middle = Math.floor((start + end) / 2 / step) * step;
    if (!SPLIT.has(error.code) || halves === MOST_HALVES || middle <= start) throw error;
    const before = await countsWithin(agent, { start, end: middle - 1e-6, step, type, signal }, halves + 1);
    const behind = await countsWithin(agent, { start: middle, end, step, type, signal }, halves + 1);
    return [...before, ...behind];
  }
}

/** The counts as stacked bars for uPlot: {data, series}. The largest type is at the bottom. */
export function stacked(counts, start, end, step) {
  const first = Math.floor(start / step) * step;
  const size = Math.max(1, Math.floor((end - first) / step) + 1);
  const starts = Array.from({ length: size }, (_, index) => first + index * step);
  const totals = new Map();
  for (const { group, count } of counts) totals.set(group, (totals.get(group) ?? 0) + count);
  const types = [...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a));
  const sums = new Array(size).fill(0);
  const rows = types.map((type) => {
    for (const each of counts) {
      const index = Math.round((each.start - first) / step);
      if (each.group === type && index >= 0 && index < size) sums[index] += each.count;
    }
    return [...sums];
  });
  // The tallest is drawn first, so that the others are in front of it.
  const order = types.map((_, index) => index).reverse();
  return {
    data: [starts.map((each) => each + step / 2), ...order.map((index) => rows[index])],
    series: (uPlot) =>
      order.map((index) => ({
        label: types[index] || "no type",
        fill: colourOf(types[index]),
        stroke: colourOf(types[index]),
        width: 0,
        paths: uPlot.paths.bars({ size: [0.9, 40] }),
        points: { show: false },
      })),
  };
}

const NEAR_PX = 14;

/** The memory that is drawn nearest to a place of the chart, at most NEAR_PX away; null if there is none. */
export function nearest(plot, memories, lanes, left, top) {
  let best = null;
  let least = NEAR_PX;
  memories.forEach((memory, index) => {
    const away = Math.hypot(plot.valToPos(memory.timestamp, "x") - left, plot.valToPos(lanes[index], "y") - top);
    if (away < least) [best, least] = [memory, away];
  });
  return best;
}
