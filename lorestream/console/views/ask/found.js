// Found memories with the parts of their scores as stacked bars.
import { Type } from "../../components/index.js";
import { dateTime, decimal } from "../../core/format.js";
import { html } from "../../core/html.js";
import { href, place, setParams } from "../../core/router.js";
import { partsOf } from "./request.js";

const COLOURS = {
  relevance: "#3f7fdb", dense: "#3f7fdb", keyword: "#d9822b", recency: "#2f9e6e",
  importance: "#c2487f", neighbours: "#8a63d2", time: "#a8912a", rerank: "#2a9db0",
};
const colour = (name) => COLOURS[name] ?? "#7d7f8c";

/** The parts that the scores of these memories have, with their colours. */
export const Legend = ({ memories }) => html`
  <p class="legend">Parts of the score: ${[...new Set(memories.flatMap((each) => Object.keys(each.score_details ?? {})))].map((name) => html`
    <span class="type"><i style=${{ background: colour(name) }}></i>${name}</span>`)}</p>`;

/** A score as a bar of its parts; `most`: the score that fills it. */
export function ScoreBar({ memory, weights, most }) {
  const parts = partsOf(memory, weights);
  const text = parts.map(([name, value]) => `${name} ${decimal(value, 3)}`).join(", ");
  return html`
    <span class="bar" role="img" aria-label=${text || "no parts"} title=${text}>
      ${parts.map(([name, value]) => html`<i style=${{ background: colour(name), width: `${(100 * Math.max(0, value)) / most}%` }}></i>`)}
    </span>`;
}

/** A list of found memories, the best first. */
export function Found({ memories, weights }) {
  const most = Math.max(1e-9, ...memories.map((each) => Math.max(each.score, partsOf(each, weights).reduce((sum, [, value]) => sum + Math.max(0, value), 0))));
  return html`
    <ol class="found">
      ${memories.map((each) => html`
        <li key=${each.id}>
          <div class="score"><strong>${decimal(each.score, 3)}</strong><${ScoreBar} memory=${each} weights=${weights} most=${most} /></div>
          <div>
            <p class="text">${each.text}</p>
            <p class="muted"><${Type} name=${each.type} /> ${dateTime(each.timestamp)} · importance ${decimal(each.importance, 1)} ·
              ${" "}<a href=${href("agents", [each.agent_id])}>${each.agent_id}</a>
              ${place.value.params.scope !== "tenant" && html` <button type="button" class="small" onClick=${() => setParams({ why: each.id })}>Why?</button>`}</p>
          </div>
        </li>`)}
    </ol>`;
}
