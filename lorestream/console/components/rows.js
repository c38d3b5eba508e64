// A long list of which only the rows in sight are in the page: a hundred thousand lines scroll like ten.
import { html, useEffect, useRef, useState } from "../core/html.js";

const MARGIN = 10;

/**
 * `rows`: any objects; `height`: pixels of each row; `render(row)`: its content; `keyOf(row)`: unique; `label`: what
 * the list shows. While the list stands at its top, new rows push the others down; elsewhere the rows in sight stay.
 */
export function Rows({ rows, height, render, keyOf, label }) {
  const list = useRef(null);
  const [top, setTop] = useState(0);
  const [seen, setSeen] = useState(600);
  const newest = useRef(null);
  useEffect(() => {
    const resized = new ResizeObserver(() => setSeen(list.current?.clientHeight ?? 600));
    resized.observe(list.current);
    return () => resized.disconnect();
  }, []);
  useEffect(() => {
    const added = newest.current === null ? 0 : rows.findIndex((row) => keyOf(row) === newest.current);
    newest.current = rows.length ? keyOf(rows[0]) : null;
    if (added > 0 && list.current.scrollTop > height) list.current.scrollTop += added * height;
  }, [rows]);
  const first = Math.max(0, Math.floor(top / height) - MARGIN);
  const last = Math.min(rows.length, Math.ceil((top + seen) / height) + MARGIN);
  return html`
    <div class="rows" ref=${list} role="region" aria-label=${label} tabindex="0" onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
      <ol style=${{ height: `${rows.length * height}px` }}>
        ${rows.slice(first, last).map((row, index) => html`
          <li key=${keyOf(row)} style=${{ top: `${(first + index) * height}px`, height: `${height}px` }} aria-setsize=${rows.length} aria-posinset=${first + index + 1}>${render(row)}</li>`)}
      </ol>
    </div>`;
}
