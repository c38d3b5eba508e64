// The context of a prompt: what fits into a budget of tokens.
import { Copy, Field, Loaded, Panel } from "../../components/index.js";
import { api, segments } from "../../core/api.js";
import { decimal, number } from "../../core/format.js";
import { html, useId, useState } from "../../core/html.js";
import { useLoad, useSettled } from "../../core/load.js";

const MOST_TOKENS = 4000;

export function Context({ agent, query, filters }) {
  const id = useId();
  const [budget, setBudget] = useState(1000);
  const [recent, setRecent] = useState("10");
  const [relevant, setRelevant] = useState("5");
  const body = useSettled(JSON.stringify({ query, filters, token_budget: budget, recent: Number(recent || 0), relevant: Number(relevant || 0) }));
  const loaded = useLoad((signal) => api("POST", segments`/v1/agents/${agent}/context`, { body: JSON.parse(body), signal }), [agent, body]);
  return html`
    <${Panel} title="Context for a prompt" actions=${loaded.data && html`<${Copy} text=${loaded.data.text} />`}>
      <div class="field">
        <label for=${id}>Token budget: ${number(budget)}</label>
        <input id=${id} type="range" min="20" max=${MOST_TOKENS} step="20" value=${budget} onInput=${(event) => setBudget(Number(event.currentTarget.value))} />
      </div>
      <div class="row">
        <${Field} label="Most relevant" type="number" min="0" max="100" value=${relevant} onInput=${setRelevant} />
        <${Field} label="Newest" type="number" min="0" max="100" value=${recent} onInput=${setRecent} />
      </div>
      <${Loaded} of=${loaded} label="Composing">
        ${(found) => html`
          <p><meter min="0" max=${budget} value=${found.tokens} aria-label="Tokens of the budget"></meter></p>
          <p class="muted">${number(found.tokens)} of ${number(budget)} tokens: ${found.relevant.length} relevant, ${found.recent.length} newest, ${found.neighbours.length} beside them; ${found.cache}, ${decimal(found.took_ms, 1)} ms</p>
          <pre class="prompt" tabindex="0" aria-label="Text of the context">${found.text || "Nothing fits into this budget."}</pre>`}
      <//>
    <//>`;
}
