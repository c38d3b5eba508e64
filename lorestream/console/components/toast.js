// Short messages at the edge of the page, which go away by themselves.
import { html, signal } from "../core/html.js";

const shown = signal([]);
let count = 0;

/** Show a message for six seconds. `tone`: ok, warn or bad. */
export function toast(text, tone = "ok") {
  count += 1;
  const id = count;
  shown.value = [...shown.value, { id, text, tone }];
  setTimeout(() => {
    shown.value = shown.value.filter((each) => each.id !== id);
  }, 6000);
}

export const Toasts = () => html`
  <div class="toasts" role="status" aria-live="polite">
    ${shown.value.map((each) => html`<p key=${each.id} class=${each.tone}>${each.text}</p>`)}
  </div>`;
