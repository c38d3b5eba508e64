// Why a chosen memory is among the answers, or is not.
import { Field, Loaded, Panel, Stat, Tag } from "../../components/index.js";
import { api } from "../../core/api.js";
import { decimal, number } from "../../core/format.js";
import { html, useEffect, useRef, useState } from "../../core/html.js";
import { useLoad } from "../../core/load.js";
import { setParams } from "../../core/router.js";
import { Legend, ScoreBar } from "./found.js";

export function Why({ body, id = "" }) {
  const [draft, setDraft] = useState(id);
  useEffect(() => setDraft(id), [id]);
  const submit = (event) => {
    event.preventDefault();
    setParams({ why: draft.trim() });
  };
  return html`
    <${Panel} title="Why this one, or why not">
      <form class="row" onSubmit=${submit}>
        <${Field} label="Id of a memory" class="grow" value=${draft} onInput=${setDraft} autocomplete="off" spellcheck=${false} placeholder="from a timeline, or by the buttons above" />
        <button type="submit" disabled=${!draft.trim()}>Explain</button>
      </form>
      ${id && html`<${Explained} body=${body} id=${id} />`}
    <//>`;
}

function Explained({ body, id }) {
  const { explain: _, ...search } = body;
  const box = useRef(null);
  const loaded = useLoad((signal) => api("POST", "/v1/memories/explain", { body: { ...search, id }, signal }), [id, JSON.stringify(search)]);
  useEffect(() => {
    if (loaded.data) box.current?.scrollIntoView({ block: "nearest" });
  }, [loaded.data]);
  return html`
    <div ref=${box}>
      <${Loaded} of=${loaded} label="Explaining">
        ${(found) => html`
          <p class="text">${found.memory.text}</p>
          <p>${found.found ? html`<${Tag} tone="ok">found<//>` : html`<${Tag} tone="bad">not found<//>`}</p>
          <div class="stats">
            <${Stat} name="Rank" value=${found.rank === null ? "none" : `${number(found.rank)} of ${number(found.ranked)}`} note=${`the best ${found.k} are returned`} />
            <${Stat} name="Its score" value=${found.rank === null ? "–" : decimal(found.memory.score, 4)} />
            <${Stat} name="Score of the last returned" value=${decimal(found.last_score, 4)} />
          </div>
          ${found.rank !== null && html`<${Legend} memories=${[found.memory]} /><${ScoreBar} memory=${found.memory} weights=${search.weights} most=${Math.max(1e-9, found.memory.score, found.last_score ?? 0)} />`}
          ${found.reasons.length > 0 && html`<ul>${found.reasons.map((each) => html`<li><code>${each.path}</code> ${each.message}</li>`)}</ul>`}`}
      <//>
    </div>`;
}
