import { Base, type WriteOptions, newId, quoted } from "./base.js";
import { LorestreamError } from "./errors.js";
import { MemoryStream, type StreamOptions } from "./stream.js";
import type { Call, CallOptions } from "./transport.js";
import type {
  AgentTotal, ContextAnswer, ContextFields, Erasure, Event, ExplainFields, Explanation, LikenessFields, LikenessMap,
  ListedErasure, Memory, MemoryWithVector, Page, PageFields, Places, PlacesFields, Receipt, Relation, SearchAnswer, SearchFields, Summary,
  Superseded,
} from "./types.js";

/** Writing, reading and deleting memories. */
export abstract class Memories extends Base {
  /** Remember one text; `event` has further fields. Throws `rejected` when it can never become a memory. */
  async add(agentId: string, text: string, options: WriteOptions & { event?: Partial<Event> } = {}): Promise<Receipt> {
    return this.addOne({ ...options.event, agent_id: agentId, text }, options);
  }

  /** Write at most 1,000 events in one request; `rejected` of the receipt lists those that were refused. */
  async addBatch(events: Event[], options: WriteOptions = {}): Promise<Receipt> {
    const body = { events: events.map((event) => ({ ...event, id: event.id ?? newId() })), server: options.server };
    const query = options.waitMs === undefined ? {} : { wait: "indexed", timeout_ms: options.waitMs };
    return this.writeJson("POST", "/v1/events", body, options, query);
  }

  /** Replace a memory: `text` becomes a new one, and reads leave the old one out. `delete` of the new one undoes it. */
  async supersede(
    memoryId: string,
    agentId: string,
    text: string,
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Superseded> {
    const body = { id: newId(), ...options.event, text, server: options.server };
    const waiting = options.waitMs === undefined ? {} : { wait: "indexed", timeout_ms: options.waitMs };
    const path = `/v1/memories/${quoted(memoryId)}/supersede`;
    return this.writeJson("POST", path, body, options, { agent_id: agentId, ...waiting });
  }

  /** Delete one memory for ever. */
  async delete(memoryId: string, agentId: string, options: CallOptions = {}): Promise<Erasure> {
    return this.writeJson("POST", "/v1/erasures", { memory_id: memoryId, agent_id: agentId }, options);
  }

  /** Erase all that the agent has so far. */
  async forget(agentId: string, options: CallOptions = {}): Promise<Erasure> {
    return this.writeJson("POST", "/v1/erasures", { agent_id: agentId }, options);
  }

  /** Erase all memories about the player so far, of all agents, and those of the agents named after it. */
  async forgetPlayer(player: string, options: CallOptions = {}): Promise<Erasure> {
    return this.writeJson("POST", "/v1/erasures", { player }, options);
  }

  /** Whether an erasure is processed: then no read shows what it erased. */
  async erasureDone(erasure: Pick<Erasure, "erasure_id">, options: CallOptions = {}): Promise<boolean> {
    const path = `/v1/erasures/${quoted(erasure.erasure_id)}`;
    return (await this.askWriter<{ state: string }>("GET", path, options)).state === "done";
  }

  /** The newest erasures of agents and players, at most 1,000; deletions of single memories are not among them. */
  async erasures(limit = 100, options: CallOptions = {}): Promise<ListedErasure[]> {
    return (await this.askWriter<{ erasures: ListedErasure[] }>("GET", "/v1/erasures", options, { limit })).erasures;
  }

  /** The best memories for the query, of one agent or of several (at most 64). Without a query (null): by filters, newest first. */
  async search(
    agent: string | string[],
    query: string | null,
    fields: SearchFields = {},
    options: CallOptions = {},
  ): Promise<SearchAnswer> {
    const body = { ...fields, ...whose(agent), ...(query === null ? {} : { query }) };
    return this.readJson("POST", "/v1/memories/search", options, { body, waitMs: fields.wait_ms ?? undefined });
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
    return this.readJson("POST", path, options, { body, waitMs: fields.wait_ms ?? undefined });
  }

  /** One memory. Throws `not_found`. */
  async get(memoryId: string, agentId: string, options: CallOptions = {}): Promise<Memory> {
    return this.readJson("GET", `/v1/memories/${quoted(memoryId)}`, options, { query: { agent_id: agentId } });
  }

  /**
   * The memories and records with these ids (at most 256), in this order; unknown ones are left out. With `vectors`
   * each has what it is searched by as `vector`: float32 numbers in little-endian order, in base64.
   */
  async getMany(
    agentId: string,
    ids: string[],
    options: CallOptions & { vectors?: boolean } = {},
  ): Promise<MemoryWithVector[]> {
    const body = { agent_id: agentId, ids, vectors: options.vectors ?? false };
    return (await this.readJson<{ memories: MemoryWithVector[] }>("POST", "/v1/memories/get", options, { body })).memories;
  }

  /** One page of an agent's memories in the order of time; `next_cursor` as `cursor` gives the next one. */
  async recent(agentId: string, fields: PageFields = {}, options: CallOptions = {}): Promise<Page> {
    const { filters, ...rest } = fields;
    const query: Call["query"] = { ...rest, ...(filters === undefined ? {} : { filters: JSON.stringify(filters) }) };
    return this.readJson("GET", `/v1/agents/${quoted(agentId)}/memories`, options, { query });
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
    return this.readJson("GET", `/v1/agents/${quoted(agentId)}/summary`, options);
  }

  /** With whom an agent has to do: over `about` and `player` of its memories, the most memories first. */
  async relations(agentId: string, limit = 100, options: CallOptions = {}): Promise<Relation[]> {
    const path = `/v1/agents/${quoted(agentId)}/relations`;
    return (await this.readJson<{ relations: Relation[] }>("GET", path, options, { query: { limit } })).relations;
  }

  /** The agents with the most memories, `prefix`: whose ids begin so. Needs the scope admin where there are keys. */
  async agents(limit = 100, options: CallOptions & { prefix?: string } = {}): Promise<AgentTotal[]> {
    const query = { limit, prefix: options.prefix };
    return (await this.readJson<{ agents: AgentTotal[] }>("GET", "/v1/agents", options, { query })).agents;
  }

  /** Memories as they become findable, without end: for await (const memory of client.stream({ agentId })) */
  stream(options: StreamOptions = {}): MemoryStream {
    return new MemoryStream(this.transport, options);
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
    return this.readJson("POST", "/v1/memories/explain", options, { body });
  }

  /**
   * How many memories of an agent, of several (at most 64) or of the whole tenant (null; needs the scope admin where
   * there are keys) are in each cell of a grid over x and z; the fullest cells first.
   */
  async places(agent: string | string[] | null, fields: PlacesFields = {}, options: CallOptions = {}): Promise<Places> {
    return this.readJson("POST", "/v1/memories/places", options, { body: { ...fields, ...whose(agent) } });
  }

  /** The newest memories, of the same choice of agents, placed by their likeness: close together means similar. */
  async likeness(
    agent: string | string[] | null,
    fields: LikenessFields = {},
    options: CallOptions = {},
  ): Promise<LikenessMap> {
    return this.readJson("POST", "/v1/memories/likeness", options, { body: { ...fields, ...whose(agent) } });
  }

  /** One event; throws `rejected` when it was refused. */
  protected async addOne(event: Event, options: WriteOptions): Promise<Receipt> {
    const receipt = await this.addBatch([event], options);
    for (const { code, message } of receipt.rejected) {
      throw new LorestreamError("rejected", message, { status: 202, details: { code } });
    }
    return receipt;
  }
}

function whose(agent: string | string[] | null): object {
  if (agent === null) return { scope: "tenant" };
  return typeof agent === "string" ? { agent_id: agent } : { agent_ids: agent };
}
