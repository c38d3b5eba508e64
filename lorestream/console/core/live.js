// The stream of memories as they become findable: GET /v1/stream, server-sent events by fetch, because they need a key.
import { send } from "./api.js";

/**
 * The events of the stream, each {event, data} with `data` parsed, until `signal` ends it. `query`: agent_id, player,
 * type. `place.id`: the id behind which it goes on, or undefined; it follows the stream. `opened()` is called when the
 * service has begun to answer. Raises ApiError.
 */
export async function* serverEvents({ query, place, signal, opened }) {
  const headers = place.id ? { "Last-Event-ID": place.id } : {};
  const response = await send("GET", "/v1/stream", { query, accept: "text/event-stream", headers, signal });
  opened?.();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, event] = ["", { event: "message", data: "" }];
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
          place.id = event.id ?? place.id;
          if (event.data) yield { event: event.event, data: JSON.parse(event.data) };
          event = { event: "message", data: "" };
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
