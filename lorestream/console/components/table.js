// A table that scrolls sideways in a narrow window, sorts by its columns, and lets rows be chosen by keyboard.
import { html, useState } from "../core/html.js";

/**
 * `columns`: [{key, title, render(row), value(row) to sort by, align: "right", wide: true}]; `rows`: any objects;
 * `keyOf(row)`: unique; `onSelect(row)`: the first cell is a button for it; `selected`: the key of the chosen row; `caption`: what the table shows, for
 * screen readers.
 */
export function Table({ columns, rows, keyOf, onSelect, selected, caption }) {
  const [order, setOrder] = useState(null);
  const column = order && columns.find((each) => each.key === order.key);
  const shown = column ? sorted(rows, column.value, order.descending) : rows;
  const turn = (key) =>
    setOrder((last) => (last?.key !== key ? { key, descending: false } : last.descending ? null : { key, descending: true }));
  const title = (each) => {
    const direction = order?.key !== each.key ? "none" : order.descending ? "descending" : "ascending";
    if (!each.value) return html`<th scope="col" class=${each.align}>${each.title}</th>`;
    return html`<th scope="col" class=${each.align} aria-sort=${direction}>
      <button type="button" class="sort" onClick=${() => turn(each.key)}>${each.title}<span aria-hidden="true">${ARROWS[direction]}</span></button></th>`;
  };
  const choose = (row) => (event) => {
    if (!event.target.closest("a, button, input")) onSelect(row);
  };
  const isChosen = (row) => selected !== undefined && keyOf(row) === selected;
  const content = (each, row) => (each.render ? each.render(row) : row[each.key]);
  const cell = (each, index, row) =>
    onSelect && index === 0
      ? html`<button type="button" class="choose" aria-pressed=${isChosen(row)} onClick=${() => onSelect(row)}>${content(each, row)}</button>`
      : content(each, row);
  return html`
    <div class="table" role="region" aria-label=${caption} tabindex="0">
      <table>
        <caption class="hidden">${caption}</caption>
        <thead><tr>${columns.map(title)}</tr></thead>
        <tbody>
          ${shown.map(
            (row) => html`
              <tr key=${keyOf(row)} class="${onSelect ? "choice" : ""} ${isChosen(row) ? "selected" : ""}" onClick=${onSelect && choose(row)}>
                ${columns.map((each, index) => html`<td class="${each.align ?? ""} ${each.wide ? "wide" : ""}">${cell(each, index, row)}</td>`)}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
}

const ARROWS = { none: "", ascending: " ▲", descending: " ▼" };

function sorted(rows, value, descending) {
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === y) return 0;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (x < y ? -1 : 1) * sign;
  });
}
