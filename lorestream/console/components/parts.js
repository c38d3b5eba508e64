// Small parts: panels, figures, tags, and what is shown while something loads, is missing or has failed.
import { colourOf } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { toast } from "./toast.js";

/** A titled box. `actions`: buttons beside the title. */
export const Panel = ({ title, actions, children, level = 2, ...rest }) => html`
  <section class="panel" ...${rest}>
    ${title && html`<header>${level === 2 ? html`<h2>${title}</h2>` : html`<h3>${title}</h3>`}<div class="actions">${actions}</div></header>`}
    ${children}
  </section>`;

/** A figure with its name. `tone`: ok, warn or bad. */
export const Stat = ({ name, value, note, tone }) => html`
  <div class="stat ${tone ?? ""}"><span class="name">${name}</span><strong>${value}</strong>${note && html`<span class="note">${note}</span>`}</div>`;

/** A short label. `tone`: ok, warn or bad. */
export const Tag = ({ tone, children }) => html`<span class="tag ${tone ?? ""}">${children}</span>`;

/** The type of an event with its colour. */
export const Type = ({ name }) => html`
  <span class="type"><i style=${{ background: colourOf(name) }} aria-hidden="true"></i>${name || "no type"}</span>`;

/** What to do where there is nothing to show yet. `command`: a command line to copy. */
export const Empty = ({ title, children, command }) => html`
  <div class="empty">
    <p><strong>${title}</strong></p>
    ${children && html`<p>${children}</p>`}
    ${command && html`<p class="command"><code>${command}</code> <${Copy} text=${command} /></p>`}
  </div>`;

/** Work in progress. Without \`max\` its end is not known. */
export const Progress = ({ label, value, max }) => html`
  <div class="progress" role="status">
    <span>${label}</span>
    ${max ? html`<progress value=${value} max=${max} aria-label=${label}></progress>` : html`<progress aria-label=${label}></progress>`}
  </div>`;

export const Loading = ({ label = "Loading" }) => html`<${Progress} label=${`${label} …`} />`;

/** Why something failed, and what to do. `retry` is called by the button. */
export const ErrorBox = ({ error, retry }) => html`
  <div class="error" role="alert">
    <p><strong>${titleOf(error)}</strong> ${error.message}</p>
    ${error.path && html`<p>Field: <code>${error.path}</code></p>`}
    ${error.requestId && html`<p class="muted">Request <code>${error.requestId}</code></p>`}
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;

function titleOf(error) {
  if (error.status === 0) return "Not reachable.";
  if (error.status === 401) return "A key is needed.";
  if (error.status === 403) return "This key may not do that.";
  if (error.code === "wrong_service") return "Another service answers this.";
  return error.code ? `${error.code}:` : "Failed.";
}

/** What \`useLoad\` returned: progress, the error, or the children called with the data. */
export const Loaded = ({ of, label, children }) => {
  // What was there stays below an error: a form that is being filled in must not go away with one lost answer.
  if (of.error) return html`<${ErrorBox} error=${of.error} retry=${of.reload} />${of.data !== undefined && children(of.data)}`;
  if (of.data === undefined) return html`<${Loading} label=${label} />`;
  return children(of.data);
};

/** A button that copies a text. */
export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      toast("The browser does not allow copying: select the text and copy it by hand", "bad");
    }
  };
  return html`<button type="button" class="small" onClick=${copy}>${done ? "Copied" : label}</button>`;
}
