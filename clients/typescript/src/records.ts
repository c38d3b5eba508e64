import { type WriteOptions, quoted } from "./base.js";
import { LorestreamError } from "./errors.js";
import { Memories } from "./memories.js";
import type { CallOptions } from "./transport.js";
import type { AgentState, AggregateFields, Buckets, Event, Memory, Page, Receipt, RecordFields } from "./types.js";

/** Messages, tool calls, rewards, interactions, states. Only messages are found by searches. */
export abstract class Records extends Memories {
  /** Remember what was said, by whom, in which conversation. It is a memory as well: searches find it. */
  async message(
    agentId: string,
    text: string,
    said: { role?: string; name?: string; conversation?: string | number } = {},
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.addOne({ ...options.event, agent_id: agentId, type: "message", text, data: said }, options);
  }

  /** One page of the agent's messages, of one `conversation` or of all; the speaker is in the `metadata` of each. */
  async messages(agentId: string, fields: RecordFields = {}, options: CallOptions = {}): Promise<Page> {
    return this.recent(agentId, { ...fields, type: "message" }, options);
  }

  /** Record the use of a tool. `recent` with the type `tool` reads them. */
  async tool(
    agentId: string,
    tool: string,
    used: { input?: unknown; output?: unknown; ok?: boolean; took_ms?: number } = {},
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.record(agentId, "tool", { tool, ...used }, options);
  }

  /** Record a reward and, by name, what it is made of. */
  async reward(
    agentId: string,
    value: number,
    options: WriteOptions & { components?: Record<string, number>; event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.record(agentId, "reward", { value, components: options.components }, options);
  }

  /** One page of the agent's rewards: `metadata.value`. */
  async rewards(agentId: string, fields: RecordFields = {}, options: CallOptions = {}): Promise<Page> {
    return this.recent(agentId, { ...fields, type: "reward" }, options);
  }

  /** Record a request, the response to it, and what was thought of that. */
  async interaction(
    agentId: string,
    request: unknown,
    response: unknown,
    options: WriteOptions & { feedback?: unknown; event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.record(agentId, "interaction", { request, response, feedback: options.feedback }, options);
  }

  /** One page of the agent's interactions: `metadata.request` and so on. */
  async interactions(agentId: string, fields: RecordFields = {}, options: CallOptions = {}): Promise<Page> {
    return this.recent(agentId, { ...fields, type: "interaction" }, options);
  }

  /** Record a state of the agent as bytes, about 48 KB at most; `ids[0]` of the receipt is its id. */
  async putState(
    agentId: string,
    data: Uint8Array,
    made: { codec?: string; encoder_version?: string | number } = {},
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.record(agentId, "agent_state", { bytes: toBase64(data), ...made }, options);
  }

  /** The state with this id. Throws `not_found`, also if the id is that of a memory. */
  async state(memoryId: string, agentId: string, options: CallOptions = {}): Promise<AgentState> {
    const memory = await this.get(memoryId, agentId, options);
    if (memory.type !== "agent_state") {
      throw new LorestreamError("not_found", `${memoryId} is no state of an agent`, { status: 404 });
    }
    return stateOf(memory);
  }

  /** One page of the agent's states. */
  async states(
    agentId: string,
    fields: RecordFields = {},
    options: CallOptions = {},
  ): Promise<{ states: AgentState[]; total: number; next_cursor: string | null }> {
    const { memories, total, next_cursor } = await this.recent(agentId, { ...fields, type: "agent_state" }, options);
    return { states: memories.map(stateOf), total, next_cursor };
  }

  /** Record something with a type of its own, such as `tool`, `reward` or `interaction`; `recent` with that type reads it. */
  async record(
    agentId: string,
    type: string,
    data: Record<string, unknown>,
    options: WriteOptions & { event?: Partial<Event> } = {},
  ): Promise<Receipt> {
    return this.addOne({ ...options.event, agent_id: agentId, type, data }, options);
  }

  /** Count, sum, mean and so on of a number in an agent's records, in buckets of time. */
  async aggregate(agentId: string, fields: AggregateFields, options: CallOptions = {}): Promise<Buckets> {
    return this.readJson("POST", `/v1/agents/${quoted(agentId)}/aggregate`, options, { body: fields });
  }
}

function stateOf(memory: Memory): AgentState {
  const { bytes, codec, encoder_version, ...metadata } = memory.metadata as Record<string, unknown>;
  return {
    id: memory.id,
    agent_id: memory.agent_id,
    data: fromBase64(bytes, memory.id),
    timestamp: memory.timestamp,
    tick: memory.tick,
    codec: codec as AgentState["codec"],
    encoder_version: encoder_version as AgentState["encoder_version"],
    metadata,
  };
}

function toBase64(data: Uint8Array): string {
  return btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
}

function fromBase64(text: unknown, id: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text as string), (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new LorestreamError("not_lorestream", `the state ${id} that arrived has no bytes`, { cause });
  }
}
