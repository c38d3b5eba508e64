// The stream of memories as they become findable: GET /v1/stream, server-sent events by fetch, because they need a key.
import { send } from "./api.js";

/**
 * The events of a stream of server-sent events, each {event, id, data} with `data` parsed, until `signal` ends it.
 * `query`: agent_id, player, type; `lastId`: go on after this one; `opened()` is called
 * when the service has begun to answer. Raises ApiError.
 */
export async function* serverEvents({ query, lastId, signal, opened }) {
  const headers = lastId ? { "Last-Event-ID": lastId } : {};
  const response = await send("GET", "/v1/stream", { query, accept: "text/event-stream", headers, signal });
  opened?.();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, event] = ["", { event: "message", id: undefined, data: "" }];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r\n|\n|\r/);
      rest = parts.pop();
      for (const part of parts) {
        const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(part);
        if (field === "data") event.data += event.data ? `\n${text}` : text;
        else if (field === "id") event.id = text;
        else if (field === "event") event.event = text;
        else if (part === "") {
          if (event.data) yield { ...event, data: JSON.parse(event.data) };
          event = { event: "message", id: event.id, data: "" };
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
