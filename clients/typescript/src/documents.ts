import { type ReadOptions, type StateOptions, quoted } from "./base.js";
import { Records } from "./records.js";
import type { Entities, Entity, StateReceipt, Versions, WriteOutcome } from "./types.js";

/** Documents: keyed, versioned JSON objects of an agent. */
export abstract class Documents extends Records {
  /** Create or replace a document of an agent: a JSON object of at most 256 KiB. */
  async putEntity(type: string, id: string, data: Record<string, unknown>, options: StateOptions = {}): Promise<StateReceipt> {
    return this.writeState("PUT", entityPath(type, id), { data }, options);
  }

  /** Change fields of a document by a JSON Merge Patch (RFC 7396): null removes a field. */
  async patchEntity(type: string, id: string, patch: Record<string, unknown>, options: StateOptions = {}): Promise<StateReceipt> {
    return this.writeState("PATCH", entityPath(type, id), { data: patch }, options);
  }

  /** Delete a document; no error if there is none. */
  async deleteEntity(type: string, id: string, options: StateOptions = {}): Promise<StateReceipt> {
    return this.writeState("POST", `${entityPath(type, id)}/delete`, {}, options);
  }

  /** Make a new version with the data of the version `to`. */
  async rollback(type: string, id: string, to: number, options: StateOptions = {}): Promise<StateReceipt> {
    return this.writeState("POST", `${entityPath(type, id)}/rollback`, { to }, options);
  }

  /** A document: as it is, in a `version`, or as it was `at` a time. Throws `not_found` and `version_gone`. */
  async entity(type: string, id: string, options: ReadOptions & { version?: number; at?: number } = {}): Promise<Entity> {
    return this.readAfter("GET", entityPath(type, id), options, { version: options.version, at: options.at });
  }

  /** One page of the documents of a type, of all agents whose id begins with `prefix`. */
  async entities(
    type: string,
    options: ReadOptions & { prefix?: string; limit?: number; cursor?: string } = {},
  ): Promise<Entities> {
    const { prefix, limit, cursor } = options;
    return this.readAfter("GET", `/v1/entities/${quoted(type)}`, options, { prefix, limit, cursor });
  }

  /** One page of the versions of a document that are kept, newest first. */
  async versions(type: string, id: string, options: ReadOptions & { limit?: number; cursor?: string } = {}): Promise<Versions> {
    return this.readAfter("GET", `${entityPath(type, id)}/versions`, options, { limit: options.limit, cursor: options.cursor });
  }

  /** What became of a write of a document in the last 7 days. */
  async entityWrite(type: string, id: string, eventId: string, options: ReadOptions = {}): Promise<WriteOutcome> {
    return this.readAfter("GET", `${entityPath(type, id)}/writes/${quoted(eventId)}`, options);
  }
}

function entityPath(type: string, id: string): string {
  return `/v1/entities/${quoted(type)}/${quoted(id)}`;
}
