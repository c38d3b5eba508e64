import { LorestreamError } from "./errors.js";
import { type Call, type CallOptions, type ClientOptions, Transport } from "./transport.js";
import type { StateReceipt } from "./types.js";

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

/** What the groups of methods share: how each kind of call is sent. */
export abstract class Base {
  protected readonly transport: Transport;

  constructor(options: ClientOptions = {}) {
    this.transport = new Transport(options);
  }

  /** Any other route of the API, with the same addresses, key, retries and errors: its decoded answer. */
  async send<T>(call: Call): Promise<T> {
    return this.transport.json(call);
  }

  /** A request to the query service. */
  protected readJson<T>(method: Call["method"], path: string, options: CallOptions, rest: Partial<Call> = {}): Promise<T> {
    return this.transport.json({ method, path, signal: options.signal, ...rest });
  }

  /** A read that shall show a write. */
  protected readAfter<T>(method: Call["method"], path: string, options: ReadOptions, query: Call["query"] = {}): Promise<T> {
    const { after, waitMs, signal } = options;
    return this.transport.json({ method, path, query: { ...query, after, wait_ms: waitMs }, waitMs, signal });
  }

  /** A request to the gateway with a body. */
  protected writeJson<T>(
    method: Call["method"],
    path: string,
    body: object | Uint8Array<ArrayBuffer>,
    options: CallOptions & { waitMs?: number },
    query: Call["query"] = {},
  ): Promise<T> {
    return this.transport.json({ method, path, body, query, writes: true, waitMs: options.waitMs, signal: options.signal });
  }

  /** A request to the gateway without a body. */
  protected askWriter<T>(
    method: Call["method"],
    path: string,
    options: CallOptions,
    query: Call["query"] = {},
    rest: Partial<Call> = {},
  ): Promise<T> {
    return this.transport.json({ method, path, query, writes: true, signal: options.signal, ...rest });
  }

  /** A write of state, with an id of its own. */
  protected writeState(
    method: Call["method"],
    path: string,
    body: object,
    options: StateOptions,
    query: Call["query"] = {},
  ): Promise<StateReceipt> {
    const { ifVersion, tick, eventId } = options;
    const fields = { ...body, tick, if_version: ifVersion, event_id: eventId ?? newId() };
    return this.writeJson(method, path, fields, options, { ...query, ...applied(options) });
  }
}

export function applied(options: { waitMs?: number }): Call["query"] {
  return options.waitMs === undefined ? {} : { wait: "applied", timeout_ms: options.waitMs };
}

/** A new UUID (version 4). Browsers have crypto.randomUUID only in pages that came by https or from this machine. */
export function newId(): string {
  const hex = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `a${hex.slice(17, 20)}`, hex.slice(20)].join("-");
}

/** One part of a path. URLs resolve "." and ".." away, percent-encoded too. */
export function quoted(part: string): string {
  if (part === "" || part === "." || part === "..") {
    throw new LorestreamError("invalid_value", `${JSON.stringify(part)} cannot be a part of a path`);
  }
  return encodeURIComponent(part);
}
