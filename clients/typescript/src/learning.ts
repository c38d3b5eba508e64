import { type ReadOptions, type StateOptions, applied, newId, quoted } from "./base.js";
import { Documents } from "./documents.js";
import type { PolicyVersions, QTable, QUpdate, QValues, StateReceipt, WriteOutcome } from "./types.js";

/** Q-tables and policies. */
export abstract class Learning extends Documents {
  /** Update values of a Q-table, 1 to 1,000 at once, each only once for the same `eventId`. */
  async qUpdate(
    agentId: string,
    updates: QUpdate[],
    options: Omit<StateOptions, "ifVersion" | "waitMs"> & { table?: string } = {},
  ): Promise<StateReceipt> {
    return this.writeState("POST", `/v1/q/${quoted(agentId)}/update`, { updates, table: options.table }, options);
  }

  /** The values of these states; unknown ones are absent. */
  async qValues(agentId: string, states: string[], options: ReadOptions & { table?: string } = {}): Promise<QValues> {
    const body = { states, table: options.table, after: options.after, wait_ms: options.waitMs };
    return this.readJson("POST", `/v1/q/${quoted(agentId)}/values`, options, { body, waitMs: options.waitMs });
  }

  /** One page of a whole Q-table. */
  async qTable(
    agentId: string,
    options: ReadOptions & { table?: string; limit?: number; cursor?: string } = {},
  ): Promise<QTable> {
    const { table, limit, cursor } = options;
    return this.readAfter("GET", `/v1/q/${quoted(agentId)}`, options, { table, limit, cursor });
  }

  /** What became of an update of a Q-table in the last 7 days. */
  async qWrite(agentId: string, eventId: string, options: ReadOptions & { table?: string } = {}): Promise<WriteOutcome> {
    return this.readAfter("GET", `/v1/q/${quoted(agentId)}/writes/${quoted(eventId)}`, options, { table: options.table });
  }

  /** Store a policy: bytes, at most 16 MiB. */
  async putPolicy(
    agentId: string,
    data: Uint8Array<ArrayBuffer>,
    options: StateOptions & { name?: string; format?: "safetensors" | "npy" | "raw" } = {},
  ): Promise<StateReceipt> {
    const { name, format, ifVersion, tick } = options;
    const query = { name, format, tick, if_version: ifVersion, event_id: options.eventId ?? newId(), ...applied(options) };
    return this.writeJson("PUT", policyPath(agentId), data, options, query);
  }

  /** The bytes of a policy: as it is, in a `version`, or as it was `at` a time. Throws `not_found` and `version_gone`. */
  async policy(
    agentId: string,
    options: ReadOptions & { name?: string; version?: number; at?: number } = {},
  ): Promise<{ data: Uint8Array; version: number; sha256: string }> {
    const { name, version, at, after, waitMs, signal } = options;
    const query = { name, version, at, after, wait_ms: waitMs };
    const { data, headers } = await this.transport.bytes({
      method: "GET", path: policyPath(agentId), query, waitMs, signal,
    });
    const sha256 = (headers.get("etag") ?? "").replaceAll('"', "");
    return { data, version: Number(headers.get("x-lorestream-version")), sha256 };
  }

  /** One page of the versions of a policy that are kept, newest first. */
  async policyVersions(
    agentId: string,
    options: ReadOptions & { name?: string; limit?: number; cursor?: string } = {},
  ): Promise<PolicyVersions> {
    const { name, limit, cursor } = options;
    return this.readAfter("GET", `${policyPath(agentId)}/versions`, options, { name, limit, cursor });
  }

  /** What became of a write of a policy in the last 7 days. */
  async policyWrite(agentId: string, eventId: string, options: ReadOptions & { name?: string } = {}): Promise<WriteOutcome> {
    const path = `${policyPath(agentId)}/writes/${quoted(eventId)}`;
    return this.readAfter("GET", path, options, { name: options.name });
  }

  /** Make a new version of a policy with the bytes of the version `to`. */
  async rollbackPolicy(agentId: string, to: number, options: StateOptions & { name?: string } = {}): Promise<StateReceipt> {
    return this.writeState("POST", `${policyPath(agentId)}/rollback`, { to }, options, { name: options.name });
  }

  /** Delete a policy; no error if there is none. */
  async deletePolicy(agentId: string, options: StateOptions & { name?: string } = {}): Promise<StateReceipt> {
    return this.writeState("POST", `${policyPath(agentId)}/delete`, {}, options, { name: options.name });
  }
}

function policyPath(agentId: string): string {
  return `/v1/policies/${quoted(agentId)}`;
}
