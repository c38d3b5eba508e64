// An agent's conversations: its messages, grouped by the `conversation` of their metadata.
import { Empty, ErrorBox, Loaded, Panel, Progress } from "../../components/index.js";
import { api, segments } from "../../core/api.js";
import { dateTime, fromNow, number } from "../../core/format.js";
import { html, useState } from "../../core/html.js";
import { useLoad } from "../../core/load.js";
import { place, setParams } from "../../core/router.js";

const PAGE = 1000;
const MOST_PAGES = 10;

export function Conversations({ agent, summary }) {
  const { conversation } = place.value.params;
  const [read, setRead] = useState(0);
  const loaded = useLoad(async (signal) => {
    const found = new Map();
    let cursor;
    let total = 0;
    let seen = 0;
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const answer = await api("GET", segments`/v1/agents/${agent}/memories`, { query: { type: "message", limit: PAGE, cursor }, signal });
      for (const memory of answer.memories) add(found, memory);
      total = answer.total;
      seen += answer.memories.length;
      setRead(seen / Math.max(1, total));
      cursor = answer.next_cursor;
      if (!cursor) break;
    }
    return { conversations: [...found.values()], seen, total };
  }, [agent, summary]);
  if (loaded.error) return html`<${ErrorBox} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Progress} label="Reading the messages" value=${read} max="1" />`;
  const { conversations, seen, total } = loaded.data;
  if (!conversations.length) {
    return html`<${Empty} title="This agent has no messages.">A message is an event of the type <code>message</code> with <code>role</code>, <code>name</code> and <code>conversation</code> in its data.<//>`;
  }
  const chosen = conversations.find((each) => each.name === conversation) ?? conversations[0];
  return html`
    <div class="columns">
      <${Panel} title=${`${number(conversations.length)} conversations`}>
        <div class="list" tabindex="0" role="region" aria-label="Conversations">
          <ul>${conversations.map((each) => html`
            <li key=${each.name} class=${each === chosen ? "selected" : ""}>
              <button type="button" class="line" aria-pressed=${each === chosen} onClick=${() => setParams({ conversation: each.name })}>
                <span class="when">${dateTime(each.last)}</span><span>${number(each.count)} messages</span>
                <span class="text"><strong>${each.name || "without a conversation"}</strong> ${each.text}</span>
              </button>
            </li>`)}</ul>
        </div>
        ${seen < total && html`<p class="muted">From the newest ${number(seen)} of ${number(total)} messages.</p>`}
      <//>
      <${Thread} agent=${agent} name=${chosen.name} />
    </div>`;
}

/** Add a message, which is older than those before it, to its conversation. */
function add(found, memory) {
  const name = String(memory.metadata.conversation ?? "");
  const known = found.get(name);
  if (known) known.count += 1;
  else found.set(name, { name, count: 1, last: memory.timestamp, text: memory.text });
}

const SHOWN = 500;

function Thread({ agent, name }) {
  const query = name
    ? { type: "message", conversation: name, limit: SHOWN }
    : { type: "message", filters: JSON.stringify({ conversation: { exists: false } }), limit: SHOWN };
  const loaded = useLoad((signal) => api("GET", segments`/v1/agents/${agent}/memories`, { query, signal }), [agent, name]);
  return html`
    <${Panel} title=${name || "Without a conversation"}>
      <${Loaded} of=${loaded} label="Loading the messages">
        ${({ memories, total }) => html`
          ${total > memories.length && html`<p class="muted">The newest ${number(memories.length)} of ${number(total)} messages.</p>`}
          <ol class="thread" tabindex="0" aria-label="Messages">
            ${[...memories].reverse().map((each) => html`
              <li key=${each.id} data-role=${each.metadata.role}>
                <p class="muted"><strong>${each.metadata.name ?? each.metadata.role ?? "unknown"}</strong> <span title=${dateTime(each.timestamp)}>${fromNow(each.timestamp)}</span></p>
                <p class="text">${each.text}</p>
              </li>`)}
          </ol>`}
      <//>
    <//>`;
}
