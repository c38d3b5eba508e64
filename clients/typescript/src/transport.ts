import { LorestreamError, errorOf } from "./errors.js";

export interface ClientOptions {
  /** The address of Lorestream, or of its gateway in the distributed shape. Default: http://127.0.0.1:8080 */
  url?: string;
  /** The address of the query service, where it is another one. */
  queryUrl?: string;
  /** The API key, ID.SECRET. */
  apiKey?: string;
  /** How long one attempt may take, in milliseconds, beside the time that the call waits on purpose. Default: 10,000 */
  timeoutMs?: number;
  /** How long overload (429), outages (503) and broken connections are retried, in milliseconds; 0 = never. Default: 30,000 */
  retryTimeoutMs?: number;
  /** Another fetch, for tests or special environments. */
  fetch?: typeof globalThis.fetch;
}

/** Options of every call. */
export interface CallOptions {
  /** Ends the call when it is aborted; the call then throws the signal's reason. */
  signal?: AbortSignal;
}

export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Record<string, string | number | boolean | null | undefined>;
  /** An object is sent as JSON, bytes as they are. */
  body?: object | Uint8Array<ArrayBuffer>;
  /** A write: it goes to the gateway. */
  writes?: boolean;
  /** How long the server may wait before it answers, in milliseconds. */
  waitMs?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Whether a failure is retried. Default: true */
  retries?: boolean;
  /** A further status that counts as success. */
  otherSuccess?: number;
  headers?: Record<string, string>;
}

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;

/** Sends calls: addresses, key, timeouts, retries, errors. Every call may be sent twice without a second effect. */
export class Transport {
  readonly #options: ClientOptions;
  readonly #writer: string;
  readonly #reader: string;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#writer = (options.url ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
    this.#reader = (options.queryUrl ?? this.#writer).replace(/\/+$/, "");
  }

  /** The decoded JSON of a successful answer. */
  async json<T>(call: Call): Promise<T> {
    const { response, body } = await this.#retried(call, (answer) => answer.text());
    try {
      return JSON.parse(body) as T;
    } catch (cause) {
      throw new LorestreamError("not_lorestream", `${response.url} is not a Lorestream: its answer is no JSON`, { cause });
    }
  }

  /** The bytes of a successful answer, and its headers. */
  async bytes(call: Call): Promise<{ data: Uint8Array; headers: Headers }> {
    const { response, body } = await this.#retried(call, async (answer) => new Uint8Array(await answer.arrayBuffer()));
    return { data: body, headers: response.headers };
  }

  /** A successful answer whose body is still arriving. The caller's signal ends it, no timeout does. */
  async open(call: Call): Promise<Response> {
    return (await this.#retried(call, async () => undefined)).response;
  }

  async #retried<T>(call: Call, read: (response: Response) => Promise<T>) {
    const start = Date.now();
    const retryMs = call.retries === false ? 0 : (this.#options.retryTimeoutMs ?? 30_000);
    for (let backoffMs = FIRST_BACKOFF_MS; ; backoffMs = Math.min(2 * backoffMs, MAX_BACKOFF_MS)) {
      try {
        return await this.#attempt(call, read);
      } catch (error) {
        call.signal?.throwIfAborted();
        if (!(error instanceof LorestreamError) || !error.retryable) throw error;
        const pauseMs = error.retryAfterMs ?? backoffMs * (0.5 + Math.random() / 2);
        if (Date.now() - start + pauseMs >= retryMs) throw error;
        await pause(pauseMs, call.signal);
      }
    }
  }

  async #attempt<T>(call: Call, read: (response: Response) => Promise<T>) {
    const timeoutMs = (this.#options.timeoutMs ?? 10_000) + (call.waitMs ?? 0);
    const timer = new AbortController();
    const timeout = setTimeout(() => timer.abort(), timeoutMs);
    const signals = call.signal === undefined ? [timer.signal] : [timer.signal, call.signal];
    const base = call.writes ? this.#writer : this.#reader;
    try {
      const response = await (this.#options.fetch ?? fetch)(base + call.path + queryString(call.query), {
        method: call.method,
        headers: this.#headers(call),
        redirect: "manual",
        signal: AbortSignal.any(signals),
        ...(call.body === undefined ? {} : { body: encoded(call.body) }),
      });
      if (!response.ok && response.status !== call.otherSuccess) throw await errorOf(response);
      return { response, body: await read(response) };
    } catch (cause) {
      if (cause instanceof LorestreamError || call.signal?.aborted) throw cause;
      if (timer.signal.aborted) {
        throw new LorestreamError("timeout", `the Lorestream at ${base} did not answer in ${timeoutMs} ms`, { cause });
      }
      throw new LorestreamError("unreachable", `no Lorestream at ${base}: start one with lorestream up`, { cause });
    } finally {
      clearTimeout(timeout);
    }
  }

  #headers(call: Call): Record<string, string> {
    const type = call.body === undefined ? undefined : isBytes(call.body) ? "application/octet-stream" : "application/json";
    return {
      ...(type === undefined ? {} : { "Content-Type": type }),
      ...(this.#options.apiKey === undefined ? {} : { Authorization: `Bearer ${this.#options.apiKey}` }),
      ...call.headers,
    };
  }
}

/** Waits, or throws the signal's reason when it is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(done, ms);
    function done(): void {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }
    function aborted(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

function queryString(query: Call["query"]): string {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text === "" ? "" : `?${text}`;
}

function isBytes(body: object): body is Uint8Array<ArrayBuffer> {
  return body instanceof Uint8Array;
}

function encoded(body: object | Uint8Array<ArrayBuffer>): string | Uint8Array<ArrayBuffer> {
  return isBytes(body) ? body : JSON.stringify(body, refuseNonFinite);
}

/** JSON.stringify writes NaN and infinity as null, which would change what was meant. */
function refuseNonFinite(name: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new LorestreamError("invalid_value", `${value} cannot be written as JSON`, { details: { path: name } });
  }
  return value;
}
