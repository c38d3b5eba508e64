/** The types of the API, by short names. They are made from its OpenAPI document: see openapi.ts. */

import type { components, paths } from "./openapi.js";

type Schemas = components["schemas"];
type Queries<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Query } } }
  ? NonNullable<Query>
  : never;

export type Memory = Schemas["StoredMemory"];
export type Receipt = Schemas["EventsResponse"];
export type Erasure = Schemas["ErasureReceipt"];
export type SearchAnswer = Schemas["SearchResponse"];
export type FoundMemory = SearchAnswer["memories"][number];
export type Page = Schemas["RecentResponse"];
export type ContextAnswer = Schemas["ContextResponse"];
export type Summary = Schemas["SummaryResponse"];
export type Entity = Schemas["EntityResponse"];
export type Entities = Schemas["EntitiesResponse"];
export type Versions = Schemas["VersionsResponse"];
export type StateReceipt = Schemas["StateReceipt"];
export type WriteOutcome = Schemas["WriteResponse"];
export type QUpdate = Schemas["QUpdateBody"]["updates"][number];
export type QValues = Schemas["ValuesResponse"];
export type QTable = Schemas["TableResponse"];
export type Relation = Schemas["RelationsResponse"]["relations"][number];
export type Explanation = Schemas["ExplainResponse"];
export type ExplainFields = Partial<Omit<Schemas["Explain"], "agent_id" | "agent_ids" | "query" | "id">>;
export type RewindReceipt = Schemas["RewindReceipt"];
export type Rewind = Schemas["RewindView"];
export type RewindSize = Schemas["RewindPreviewResponse"];
export type Webhook = Schemas["WebhookView"];
export type WebhookFilter = Schemas["WebhookFilterBody"];
export type WebhookTried = Schemas["WebhookTried"];
export type Superseded = Schemas["SupersedeResponse"];
export type ListedErasure = Schemas["ListedErasure"];
export type AgentTotal = Schemas["AgentTotal"];
export type MemoryWithVector = Schemas["ReadMemory"];
export type Places = Schemas["PlacesResponse"];
export type LikenessMap = Schemas["LikenessResponse"];
export type PolicyVersions = Schemas["PolicyVersionsResponse"];
/** Whether a service can do its job. `checks` has one entry for each part: "ok", or what is missing. */
export interface Readiness {
  status: string;
  checks: Record<string, string>;
}
export type Buckets = Schemas["AggregateResponse"];

/** The fields of a search, beside its agents and its query. */
export type SearchFields = Partial<Omit<Schemas["Search"], "agent_id" | "agent_ids" | "query">>;
/** The fields of a context, beside its query. */
export type ContextFields = Partial<Omit<Schemas["Context"], "query">>;
/** The fields of an aggregate. */
export type AggregateFields = Schemas["Aggregate"];
/** What limits and orders a page of memories; `filters` as an object. */
export type PageFields = Omit<Queries<"/v1/agents/{agent_id}/memories">, "filters"> & { filters?: Filters };
/** What limits and orders a page of records. */
export type RecordFields = Omit<PageFields, "type">;
/** What limits a map of places. */
export type PlacesFields = Partial<Omit<Schemas["Places"], "agent_id" | "agent_ids" | "scope">>;
/** What limits a map of likeness. */
export type LikenessFields = Partial<Omit<Schemas["Likeness"], "agent_id" | "agent_ids" | "scope">>;
export type Filters = Record<string, unknown>;

/** An event. Needed: `agent_id`, and `text` or `type`. Times are Unix seconds. */
export interface Event {
  agent_id: string;
  text?: string;
  type?: string;
  id?: string;
  data?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
  player?: string;
  pos?: { x?: number; y?: number; z?: number };
  tick?: number;
  time?: number;
  importance?: number;
  ttl?: number;
  recall?: boolean;
  about?: string[];
  sources?: string[];
  supersedes?: string;
}

/** A state of an agent: bytes that its `codec` explains. `id`: that of its record. */
export interface AgentState {
  id: string;
  agent_id: string;
  data: Uint8Array;
  timestamp: number;
  tick: number | null;
  codec: string | undefined;
  encoder_version: string | number | undefined;
  metadata: Record<string, unknown>;
}
