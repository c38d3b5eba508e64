import { LorestreamError } from "./errors.js";
import { type Call, type Transport, pause } from "./transport.js";
import type { Memory } from "./types.js";

/** A stream has failed after this time without data: the server sends a comment every 15 s. */
const SILENCE_MS = 45_000;
const RECONNECT_MS = 500;

export interface StreamOptions {
  /** Only memories of this agent. */
  agentId?: string;
  /** Only memories about this player (the plain name), of any agent. */
  player?: string;
  /** Only memories and records of this type. */
  type?: string;
  /** The `lastEventId` of an earlier stream: begins behind it instead of now. */
  lastEventId?: string;
  /** Ends the stream: the loop over it then ends without an error. */
  signal?: AbortSignal;
}

/** Memories as they become findable: for await (const memory of stream). A connection that breaks is resumed. */
export class MemoryStream implements AsyncIterable<Memory> {
  /** The place behind which another stream would go on. */
  lastEventId: string | undefined;
  /** How many records the log had deleted before this stream could read them. */
  lost = 0;
  readonly #transport: Transport;
  readonly #options: StreamOptions;

  constructor(transport: Transport, options: StreamOptions) {
    this.#transport = transport;
    this.#options = options;
    this.lastEventId = options.lastEventId;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Memory, void, undefined> {
    const { signal } = this.#options;
    while (!signal?.aborted) {
      const connection = new AbortController();
      const signals = signal === undefined ? [connection.signal] : [connection.signal, signal];
      try {
        const response = await this.#transport.open(this.#call(AbortSignal.any(signals)));
        for await (const event of parsed(response, connection)) {
          if (event.id !== undefined) this.lastEventId = event.id;
          if (event.kind === "memory") yield JSON.parse(event.data) as Memory;
          if (event.kind === "lost") this.lost += (JSON.parse(event.data) as { records: number }).records;
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof LorestreamError) throw error; // after its retries
      } finally {
        connection.abort();
      }
      await pause(RECONNECT_MS, signal).catch(() => undefined);
    }
  }

  #call(signal: AbortSignal): Call {
    const { agentId, player, type } = this.#options;
    const resume = this.lastEventId === undefined ? {} : { "Last-Event-ID": this.lastEventId };
    const query = { agent_id: agentId, player, type };
    return { method: "GET", path: "/v1/stream", query, signal, headers: { Accept: "text/event-stream", ...resume } };
  }
}

interface ServerSentEvent {
  id: string | undefined;
  kind: string;
  data: string;
}

/** Server-sent events (WHATWG HTML, 9.2.6) as Lorestream sends them: lines that end with a line feed. */
async function* parsed(response: Response, connection: AbortController): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  if (reader === undefined) throw new LorestreamError("not_lorestream", `${response.url} sent no stream`);
  let rest = "";
  let event: ServerSentEvent = { id: undefined, kind: "", data: "" };
  for (;;) {
    const silence = setTimeout(() => connection.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        yield event;
        event = { id: undefined, kind: "", data: "" };
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const field = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "id") event.id = field;
      else if (name === "event") event.kind = field;
      else if (name === "data") event.data = field;
    }
  }
}
