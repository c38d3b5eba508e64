// What an admin task is doing, and what to do where the service does not carry it out.
import { html } from "../core/html.js";
import { Copy, ErrorBox, Progress } from "./parts.js";
import { number } from "../core/format.js";

/** The progress, remarks and end of a task; `state` as `useTask` gives it. `children(outcome)`: how its end is shown. */
export const TaskState = ({ state, children }) =>
  state &&
  html`
    <div class="task" aria-live="polite">
      ${state.running && html`<${Progress} ...${progressOf(state)} />`}
      ${state.remarks?.map((text) => html`<p class="muted">${text}</p>`)}
      ${state.error && html`<${ErrorBox} error=${state.error} />`}
      ${state.outcome && (children ? children(state.outcome) : html`<${Outcome} value=${state.outcome} />`)}
    </div>`;

function progressOf({ name, progress }) {
  if (!progress) return { label: `${name} …` };
  const { doing, done, total, unit = "", left_s: left } = progress;
  const counted = total ? `${number(done)} of ${number(total)} ${unit}` : `${number(done)} ${unit}`;
  const rest = left ? `, about ${Math.ceil(left)} s left` : "";
  return { label: `${doing}: ${counted}${rest}`, value: done, max: total ?? undefined };
}

/** The result of a task or a call of one, as names and values. */
export const Outcome = ({ value }) => html`
  <dl class="facts">
    ${Object.entries(value).map(([name, each]) => html`<dt>${name.replaceAll("_", " ")}</dt><dd>${shown(each)}</dd>`)}
  </dl>`;

function shown(value) {
  if (typeof value === "number") return number(value);
  if (value === null || value === "") return "–";
  if (Array.isArray(value)) return value.length ? value.map((each) => html`<p>${String(each)}</p>`) : "none";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** In the distributed shape a verb does the work in its own process: the command to copy. */
export const Elsewhere = ({ what, commands }) => html`
  <div class="elsewhere">
    <p>This service does not ${what}: the command does, in its own process, with the settings of the workers.</p>
    ${commands.map((text) => html`<p class="command"><code>${text}</code> <${Copy} text=${text} /></p>`)}
  </div>`;

/** A value as indented JSON, as text. */
export const Json = ({ value }) => html`<pre tabindex="0">${JSON.stringify(value, null, 2)}</pre>`;
