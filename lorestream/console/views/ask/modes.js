// What each mode alone finds, side by side.
import { ErrorBox, Loading, Panel, Tag } from "../../components/index.js";
import { api } from "../../core/api.js";
import { decimal } from "../../core/format.js";
import { html, useState } from "../../core/html.js";
import { useLoad } from "../../core/load.js";
import { setParams } from "../../core/router.js";

const MODES = ["hybrid", "dense", "keyword"];

export function Modes({ body }) {
  const [open, setOpen] = useState(false);
  return html`
    <${Panel} title="What each mode alone finds" actions=${html`<button type="button" class="small" aria-expanded=${open} onClick=${() => setOpen(!open)}>${open ? "Hide" : "Show"}</button>`}>
      ${open && html`<${Compared} body=${body} />`}
    <//>`;
}

function Compared({ body }) {
  // Weights, lifts and a second look would mix the modes with something else.
  const { weights, neighbours, time_words: words, rerank, min_score: least, explain, ...search } = body;
  const loaded = useLoad(
    (signal) => api("POST", "/v1/memories/search/batch", { body: { searches: MODES.map((mode) => ({ ...search, mode, neighbours: 0 })) }, signal }),
    [JSON.stringify(search)],
  );
  if (loaded.error) return html`<${ErrorBox} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Loading} label="Searching in each mode" />`;
  const { results } = loaded.data;
  const lists = results.map((each) => each.memories ?? []);
  const finders = (id) => lists.filter((list) => list.some((each) => each.id === id)).length;
  return html`
    <div class="columns">
      ${MODES.map((mode, index) => html`
        <div key=${mode}>
          <h3>${mode}</h3>
          ${results[index].error ? html`<p class="bad">${results[index].error.message}</p>` : lists[index].length ? html`
            <ol class="short">
              ${lists[index].map((each) => html`
                <li key=${each.id}>
                  <span class="mono">${decimal(each.score, 3)}</span> ${each.text}
                  ${finders(each.id) === 1 && html` <${Tag} tone="warn">only here<//>`}
                  ${" "}<button type="button" class="small" onClick=${() => setParams({ why: each.id })}>Why?</button>
                </li>`)}
            </ol>` : html`<p class="muted">Nothing.</p>`}
        </div>`)}
    </div>`;
}
