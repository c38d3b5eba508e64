// Fields of forms, each with its label.
import { html, useId } from "../core/html.js";

/** An input with a label. `onInput(text)`; further properties go to the input. `hint`: a line below it. */
export function Field({ label, hint, error, onInput, area, ...rest }) {
  const id = useId();
  const input = {
    id,
    onInput: (event) => onInput(event.currentTarget.value),
    "aria-describedby": hint || error ? `${id}-hint` : undefined,
    "aria-invalid": error ? "true" : undefined,
    ...rest,
  };
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      ${area ? html`<textarea ...${input}></textarea>` : html`<input type="text" ...${input} />`}
      ${(error || hint) && html`<small id="${id}-hint" class=${error ? "bad" : "muted"}>${error || hint}</small>`}
    </div>`;
}

/** A choice of one. `options`: [value] or [[value, text]]. */
export function Select({ label, value, options, onChange }) {
  const id = useId();
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <select id=${id} value=${value} onChange=${(event) => onChange(event.currentTarget.value)}>
        ${options.map((each) => {
          const [of, text] = Array.isArray(each) ? each : [each, each];
          return html`<option value=${of} selected=${of === value}>${text}</option>`;
        })}
      </select>
    </div>`;
}

/** A checkbox with its label. */
export const Toggle = ({ label, checked, onChange }) => html`
  <label class="toggle"><input type="checkbox" checked=${checked} onChange=${(event) => onChange(event.currentTarget.checked)} />${label}</label>`;

/** Links to the parts of a view. `tabs`: [[name, title, link]]. */
export const Tabs = ({ label, tabs, chosen }) => html`
  <nav class="tabs" aria-label=${label}>
    ${tabs.map(([name, title, link]) => html`<a href=${link} aria-current=${name === chosen ? "page" : undefined}>${title}</a>`)}
  </nav>`;
