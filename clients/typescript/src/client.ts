import { LorestreamError } from "./errors.js";
import { MemoryStream, type StreamOptions } from "./stream.js";
import { type Call, type CallOptions, type ClientOptions, Transport } from "./transport.js";
import type {
  Explanation, ExplainFields, Rewind, RewindReceipt,
  AggregateFields, Buckets, ContextAnswer, ContextFields, Entities, Entity, Erasure, Event, Memory, Page,
  PageFields, QTable, QUpdate, QValues, Receipt, Relation, SearchAnswer, SearchFields, StateReceipt, Summary, Versions, WriteOutcome,
} from "./types.js";

/** Options of a write of memories. */
export interface WriteOptions extends CallOptions {
  /** The name of the game server that the events come from. */
  server?: string;
  /** Wait until searches find what was written, at most so long; `indexed` of the receipt says whether they do. */
  waitMs?: number;
}

/** Options of a write of state. */
export interface StateOptions extends CallOptions {
  /** Write only if this is the present version; 0: only if there is none. */
  ifVersion?: number;
  /** An id of your own: the same write with the same id again changes nothing. Default: a new one. */
  eventId?: string;
  tick?: number;
  /** Wait until the write is applied, at most so long; `applied` of the receipt says whether it is. */
  waitMs?: number;
}

/** Options of a read that shall show a write. */
export interface ReadOptions extends CallOptions {
  /** The token of a write that the answer must show; `fresh` of the answer says whether it does. */
  after?: string;
  /** How long to wait for that. */
  waitMs?: number;
}

/**
 * A client of Lorestream. Every method may be retried without a second effect: events and writes get ids here.
 *
 *     const lorestream = new LorestreamClient({ url: "http://127.0.0.1:8080" });
 *     await lorestream.add("npc:smith", "the miner owes me ten lumps", { waitMs: 5000 });
 *     const { memories } = await lorestream.search("npc:smith", "who owes me something?");
 *
 * Methods throw LorestreamError. Names of fields are those of the HTTP API.
 */
export class LorestreamClient {
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(options);
  }

  // --- memories ---------------------------------------------------------------------------------------------

  /** Remember one text; `event` has further fields. Throws `rejected` when it can never become a memory. */
  async add(agentId: string, text: string, options: WriteOptions & { event?: Partial<Event> } = {}): Promise<Receipt> {
    return this.#single({ ...options.event, agent_id: agentId, text }, options);
  }

  /** Write at most 1,000 events in one request; `rejected` of the receipt lists those that were refused. */
  async addBatch(events: Event[], options: WriteOptions = {}): Promise<Receipt> {
    const body = { events: events.map((event) => ({ ...event, id: event.id ?? crypto.randomUUID() })), server: options.server };
    const query = options.waitMs === undefined ? {} : { wait: "indexed", timeout_ms: options.waitMs };
    return this.#write("POST", "/v1/events", body, options, query);
  }

  /** Replace a memory: `text` becomes a new one, and reads leave the old one out. `delete` of the new one undoes it. */
  async supersede(
    memoryId: string,
    agentId: string,
    text: string,
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<{ id: string; token: string }> {
    const body = { id: crypto.randomUUID(), ...options.event, text, server: options.server };
    const waiting = options.waitMs === undefined ? {} : { wait: "indexed", timeout_ms: options.waitMs };
    const path = `/v1/memories/${quoted(memoryId)}/supersede`;
    return this.#write("POST", path, body, options, { agent_id: agentId, ...waiting });
  }

  /** Delete one memory for ever. */
  async delete(memoryId: string, agentId: string, options: CallOptions = {}): Promise<Erasure> {
    return this.#write("POST", "/v1/erasures", { memory_id: memoryId, agent_id: agentId }, options);
  }

  /** Erase all that the agent has so far. */
  async forget(agentId: string, options: CallOptions = {}): Promise<Erasure> {
    return this.#write("POST", "/v1/erasures", { agent_id: agentId }, options);
  }

  /** Erase all memories about the player so far, of all agents, and those of the agents named after it. */
  async forgetPlayer(player: string, options: CallOptions = {}): Promise<Erasure> {
    return this.#write("POST", "/v1/erasures", { player }, options);
  }

  /** Whether an erasure is processed: then no read shows what it erased. */
  async erasureDone(erasure: Pick<Erasure, "erasure_id">, options: CallOptions = {}): Promise<boolean> {
    const path = `/v1/erasures/${quoted(erasure.erasure_id)}`;
    const progress = await this.#transport.json<{ state: string }>({ method: "GET", path, writes: true, signal: options.signal });
    return progress.state === "done";
  }

  /** The best memories for the query, of one agent or of several (at most 64). Without a query (null): by filters, newest first. */
  async search(
    agent: string | string[],
    query: string | null,
    fields: SearchFields = {},
    options: CallOptions = {},
  ): Promise<SearchAnswer> {
    const whose = typeof agent === "string" ? { agent_id: agent } : { agent_ids: agent };
    const body = { ...fields, ...whose, ...(query === null ? {} : { query }) };
    return this.#read("POST", "/v1/memories/search", options, { body, waitMs: fields.wait_ms ?? undefined });
  }

  /** Memories as text for a prompt, within `token_budget`: the best for the query, and the newest. */
  async context(
    agentId: string,
    query: string | null,
    fields: ContextFields = {},
    options: CallOptions = {},
  ): Promise<ContextAnswer> {
    const body = { ...fields, ...(query === null ? {} : { query }) };
    const path = `/v1/agents/${quoted(agentId)}/context`;
    return this.#read("POST", path, options, { body, waitMs: fields.wait_ms ?? undefined });
  }

  /** One memory. Throws `not_found`. */
  async get(memoryId: string, agentId: string, options: CallOptions = {}): Promise<Memory> {
    return this.#read("GET", `/v1/memories/${quoted(memoryId)}`, options, { query: { agent_id: agentId } });
  }

  /** The memories and records with these ids (at most 256), in this order; unknown ones are left out. */
  async getMany(agentId: string, ids: string[], options: CallOptions = {}): Promise<Memory[]> {
    const body = { agent_id: agentId, ids };
    return (await this.#read<{ memories: Memory[] }>("POST", "/v1/memories/get", options, { body })).memories;
  }

  /** One page of an agent's memories in the order of time; `next_cursor` as `cursor` gives the next one. */
  async recent(agentId: string, fields: PageFields = {}, options: CallOptions = {}): Promise<Page> {
    const { filters, ...rest } = fields;
    const query: Call["query"] = { ...rest, ...(filters === undefined ? {} : { filters: JSON.stringify(filters) }) };
    return this.#read("GET", `/v1/agents/${quoted(agentId)}/memories`, options, { query });
  }

  /** All memories of an agent that pass, page by page: for await (const memory of client.all("npc:smith")) */
  async *all(agentId: string, fields: PageFields = {}, options: CallOptions = {}): AsyncGenerator<Memory, void, undefined> {
    let cursor: string | null | undefined = fields.cursor;
    do {
      const page: Page = await this.recent(agentId, { ...fields, ...(cursor ? { cursor } : {}) }, options);
      yield* page.memories;
      cursor = page.next_cursor;
    } while (cursor);
  }

  /** How many memories an agent has, in all and by type, and the times of the first and the last. */
  async summary(agentId: string, options: CallOptions = {}): Promise<Summary> {
    return this.#read("GET", `/v1/agents/${quoted(agentId)}/summary`, options);
  }

  /** With whom an agent has to do: over `about` and `player` of its memories, the most memories first. */
  async relations(agentId: string, limit = 100, options: CallOptions = {}): Promise<Relation[]> {
    const path = `/v1/agents/${quoted(agentId)}/relations`;
    return (await this.#read<{ relations: Relation[] }>("GET", path, options, { query: { limit } })).relations;
  }

  /** The agents with the most memories. Needs the scope admin where there are keys. */
  async agents(limit = 100, options: CallOptions = {}): Promise<{ agent_id: string; total: number }[]> {
    type Answer = { agents: { agent_id: string; total: number }[] };
    return (await this.#read<Answer>("GET", "/v1/agents", options, { query: { limit } })).agents;
  }

  /** Memories as they become findable, without end: for await (const memory of client.stream({ agentId })) */
  stream(options: StreamOptions = {}): MemoryStream {
    return new MemoryStream(this.#transport, options);
  }

  /** Why the search with these arguments returns the memory, or does not. */
  async explain(
    agentId: string,
    memoryId: string,
    query: string | null,
    fields: ExplainFields = {},
    options: CallOptions = {},
  ): Promise<Explanation> {
    const body = { ...fields, agent_id: agentId, id: memoryId, ...(query === null ? {} : { query }) };
    return this.#read("POST", "/v1/memories/explain", options, { body });
  }

  /** Hide what the agents of a game server came to know after `to` (Unix seconds): its world was restored from a backup. */
  async rewind(server: string, to: number, options: CallOptions & { id?: string } = {}): Promise<RewindReceipt> {
    return this.#write("POST", "/v1/rewinds", { server, to, id: options.id ?? crypto.randomUUID() }, options);
  }

  /** Show again what a rewind hides. */
  async undoRewind(rewindId: string, options: CallOptions = {}): Promise<RewindReceipt> {
    const path = `/v1/rewinds/${quoted(rewindId)}`;
    return this.#transport.json({ method: "DELETE", path, writes: true, signal: options.signal });
  }

  /** The newest rewinds, and the state of each. */
  async rewinds(limit = 100, options: CallOptions = {}): Promise<Rewind[]> {
    const call: Call = { method: "GET", path: "/v1/rewinds", query: { limit }, writes: true, signal: options.signal };
    return (await this.#transport.json<{ rewinds: Rewind[] }>(call)).rewinds;
  }

  // --- records ----------------------------------------------------------------------------------------------

  /** Remember what was said, by whom, in which conversation. It is a memory as well: searches find it. */
  async message(
    agentId: string,
    text: string,
    said: { role?: string; name?: string; conversation?: string | number } = {},
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.#single({ ...options.event, agent_id: agentId, type: "message", text, data: said }, options);
  }

  /** Record something with a type of its own, such as `tool`, `reward` or `interaction`; `recent` with that type reads it. */
  async record(
    agentId: string,
    type: string,
    data: Record<string, unknown>,
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.#single({ ...options.event, agent_id: agentId, type, data }, options);
  }

  /** Count, sum, mean and so on of a number in an agent's records, in buckets of time. */
  async aggregate(agentId: string, fields: AggregateFields, options: CallOptions = {}): Promise<Buckets> {
    return this.#read("POST", `/v1/agents/${quoted(agentId)}/aggregate`, options, { body: fields });
  }

  // --- documents --------------------------------------------------------------------------------------------

  /** Create or replace a document of an agent: a JSON object of at most 256 KiB. */
  async putEntity(type: string, id: string, data: Record<string, unknown>, options: StateOptions = {}): Promise<StateReceipt> {
    return this.#state("PUT", entityPath(type, id), { data }, options);
  }

  /** Change fields of a document by a JSON Merge Patch (RFC 7396): null removes a field. */
  async patchEntity(type: string, id: string, patch: Record<string, unknown>, options: StateOptions = {}): Promise<StateReceipt> {
    return this.#state("PATCH", entityPath(type, id), { data: patch }, options);
  }

  /** Delete a document; no error if there is none. */
  async deleteEntity(type: string, id: string, options: StateOptions = {}): Promise<StateReceipt> {
    return this.#state("POST", `${entityPath(type, id)}/delete`, {}, options);
  }

  /** Make a new version with the data of the version `to`. */
  async rollback(type: string, id: string, to: number, options: StateOptions = {}): Promise<StateReceipt> {
    return this.#state("POST", `${entityPath(type, id)}/rollback`, { to }, options);
  }

  /** A document: as it is, in a `version`, or as it was `at` a time. Throws `not_found` and `version_gone`. */
  async entity(type: string, id: string, options: ReadOptions & { version?: number; at?: number } = {}): Promise<Entity> {
    return this.#after("GET", entityPath(type, id), options, { version: options.version, at: options.at });
  }

  /** One page of the documents of a type, of all agents whose id begins with `prefix`. */
  async entities(
    type: string,
    options: ReadOptions & { prefix?: string; limit?: number; cursor?: string } = {},
  ): Promise<Entities> {
    const { prefix, limit, cursor } = options;
    return this.#after("GET", `/v1/entities/${quoted(type)}`, options, { prefix, limit, cursor });
  }

  /** One page of the versions of a document that are kept, newest first. */
  async versions(type: string, id: string, options: ReadOptions & { limit?: number; cursor?: string } = {}): Promise<Versions> {
    return this.#after("GET", `${entityPath(type, id)}/versions`, options, { limit: options.limit, cursor: options.cursor });
  }

  /** What became of a write of a document in the last 7 days. */
  async entityWrite(type: string, id: string, eventId: string, options: ReadOptions = {}): Promise<WriteOutcome> {
    return this.#after("GET", `${entityPath(type, id)}/writes/${quoted(eventId)}`, options);
  }

  // --- Q-tables and policies --------------------------------------------------------------------------------

  /** Update values of a Q-table, 1 to 1,000 at once, each only once for the same `eventId`. */
  async qUpdate(
    agentId: string,
    updates: QUpdate[],
    options: Omit<StateOptions, "ifVersion" | "waitMs"> & { table?: string } = {},
  ): Promise<StateReceipt> {
    return this.#state("POST", `/v1/q/${quoted(agentId)}/update`, { updates, table: options.table }, options);
  }

  /** The values of these states; unknown ones are absent. */
  async qValues(agentId: string, states: string[], options: ReadOptions & { table?: string } = {}): Promise<QValues> {
    const body = { states, table: options.table, after: options.after, wait_ms: options.waitMs };
    return this.#read("POST", `/v1/q/${quoted(agentId)}/values`, options, { body, waitMs: options.waitMs });
  }

  /** One page of a whole Q-table. */
  async qTable(
    agentId: string,
    options: ReadOptions & { table?: string; limit?: number; cursor?: string } = {},
  ): Promise<QTable> {
    const { table, limit, cursor } = options;
    return this.#after("GET", `/v1/q/${quoted(agentId)}`, options, { table, limit, cursor });
  }

  /** Store a policy: bytes, at most 16 MiB. */
  async putPolicy(
    agentId: string,
    data: Uint8Array<ArrayBuffer>,
    options: StateOptions & { name?: string; format?: "safetensors" | "npy" | "raw" } = {},
  ): Promise<StateReceipt> {
    const { name, format, ifVersion, tick } = options;
    const query = { name, format, tick, if_version: ifVersion, event_id: options.eventId ?? crypto.randomUUID(), ...applied(options) };
    return this.#write("PUT", `/v1/policies/${quoted(agentId)}`, data, options, query);
  }

  /** The bytes of a policy, and which version they are. */
  async policy(
    agentId: string,
    options: ReadOptions & { name?: string; version?: number } = {},
  ): Promise<{ data: Uint8Array; version: number; sha256: string }> {
    const query = { name: options.name, version: options.version, after: options.after, wait_ms: options.waitMs };
    const { signal, waitMs } = options;
    const { data, headers } = await this.#transport.bytes({
      method: "GET", path: `/v1/policies/${quoted(agentId)}`, query, waitMs, signal,
    });
    const sha256 = (headers.get("etag") ?? "").replaceAll('"', "");
    return { data, version: Number(headers.get("x-lorestream-version")), sha256 };
  }

  // --- the system -------------------------------------------------------------------------------------------

  /** Any other route of the API, with the same addresses, key, retries and errors: its decoded answer. */
  async send<T>(call: Call): Promise<T> {
    return this.#transport.json(call);
  }

  async #single(event: Event, options: WriteOptions): Promise<Receipt> {
    const receipt = await this.addBatch([event], options);
    for (const { code, message } of receipt.rejected) {
      throw new LorestreamError("rejected", message, { status: 202, details: { code } });
    }
    return receipt;
  }

  #read<T>(method: Call["method"], path: string, options: CallOptions, rest: Partial<Call> = {}): Promise<T> {
    return this.#transport.json({ method, path, signal: options.signal, ...rest });
  }

  #after<T>(method: Call["method"], path: string, options: ReadOptions, query: Call["query"] = {}): Promise<T> {
    const { after, waitMs, signal } = options;
    return this.#transport.json({ method, path, query: { ...query, after, wait_ms: waitMs }, waitMs, signal });
  }

  #write<T>(
    method: Call["method"],
    path: string,
    body: object | Uint8Array<ArrayBuffer>,
    options: CallOptions & { waitMs?: number },
    query: Call["query"] = {},
  ): Promise<T> {
    return this.#transport.json({ method, path, body, query, writes: true, waitMs: options.waitMs, signal: options.signal });
  }

  #state(method: Call["method"], path: string, body: object, options: StateOptions): Promise<StateReceipt> {
    const { ifVersion, tick, eventId } = options;
    const fields = { ...body, tick, if_version: ifVersion, event_id: eventId ?? crypto.randomUUID() };
    return this.#write(method, path, fields, options, applied(options));
  }
}

function applied(options: { waitMs?: number }): Call["query"] {
  return options.waitMs === undefined ? {} : { wait: "applied", timeout_ms: options.waitMs };
}

function entityPath(type: string, id: string): string {
  return `/v1/entities/${quoted(type)}/${quoted(id)}`;
}

/** One part of a path. URLs resolve "." and ".." away, percent-encoded too. */
function quoted(part: string): string {
  if (part === "" || part === "." || part === "..") {
    throw new LorestreamError("invalid_value", `${JSON.stringify(part)} cannot be a part of a path`);
  }
  return encodeURIComponent(part);
}
