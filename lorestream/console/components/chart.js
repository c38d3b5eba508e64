// Charts over uPlot, with the colours of the theme, the width of their place, and a text for screen readers.
import { dateTime } from "../core/format.js";
import { html, useEffect, useLibrary, useRef } from "../core/html.js";
import { ErrorBox, Loading } from "./parts.js";

/**
 * `data`: [x, y, …] as uPlot takes them; `series`: [{label, stroke, fill, paths, …}] of each y, or a function that
 * makes them from uPlot; `label`: what the chart shows; `height` in pixels; `onSelect(min, max)`: x range that was
 * dragged; `onClick(plot, event)`; `time`: x is Unix seconds; `options`: further options of uPlot. The chart is made
 * anew when `series`, `height` or `options` is another object.
 */
export function Chart({ data, series, label, height = 160, time = true, onSelect, onClick, options = {} }) {
  const place = useRef(null);
  const plot = useRef(null);
  const handlers = useRef({});
  handlers.current = { onSelect, onClick };
  const { loaded: uPlot, error } = useLibrary("uplot", "uPlot");
  useEffect(() => {
    if (!uPlot) return undefined;
    // The canvas needs colours that are resolved: the style of the place has those of the theme.
    const { color: text, outlineColor: line } = getComputedStyle(place.current);
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: FONT };
    const { axes = [{}, {}], hooks, cursor, scales, ...more } = options;
    const drawn = typeof series === "function" ? series(uPlot) : series;
    const made = new uPlot(
      {
        width: place.current.clientWidth || 300,
        height,
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, ...cursor },
        scales: { x: { time }, ...scales },
        series: [{}, ...drawn],
        axes: axes.map((each, index) => ({ ...axis, ...(index > 0 ? { size: 44 } : time ? { values: times } : {}), ...each })),
        hooks: {
          ...hooks,
          setSelect: [
            (self) => {
              if (self.select.width < 4) return;
              const from = self.posToVal(self.select.left, "x");
              const to = self.posToVal(self.select.left + self.select.width, "x");
              self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
              handlers.current.onSelect?.(from, to);
            },
          ],
        },
        ...more,
      },
      data,
      place.current,
    );
    made.over.addEventListener("click", (event) => handlers.current.onClick?.(made, event));
    plot.current = made;
    const resized = new ResizeObserver(() => {
      const width = place.current?.clientWidth;
      if (width && width !== made.width) made.setSize({ width, height });
    });
    resized.observe(place.current);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [uPlot, height, time, series, options, document.documentElement.dataset.theme]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);
  return html`
    <figure class="chart">
      <div ref=${place} role="img" aria-label=${label}></div>
      ${error ? html`<${ErrorBox} error=${error} />` : !uPlot && html`<${Loading} label="Loading the chart" />`}
    </figure>`;
}

const FONT = "11px system-ui, sans-serif";

/** The texts of a time axis: the time of day, and below it the date where it changes. */
function times(_, splits, __, ___, step) {
  let day = "";
  return splits.map((split) => {
    const [date, clock] = dateTime(split).split(" ");
    const shown = date === day ? "" : date.slice(5);
    day = date;
    if (step >= 86400) return date;
    const text = step < 60 ? clock : clock.slice(0, 5);
    return shown ? `${text}\n${shown}` : text;
  });
}
