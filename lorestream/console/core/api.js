// Requests to the public API. The key lies in sessionStorage: it ends with the tab, and other sites cannot read it.
import { signal } from "./html.js";

const KEY = "lorestream.key";

/** Where the API is: the folder that the console lies in, so that a path prefix of a proxy is kept. */
export const BASE = new URL("../../", import.meta.url);

export const key = signal(sessionStorage.getItem(KEY) ?? "");
/** True while the service refuses the requests because they carry no valid key. */
export const keyWanted = signal(false);
/** How many requests are under way. */
export const pending = signal(0);

/** Use another key for all further requests; "" forgets it. */
export function setKey(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
  keyWanted.value = false;
  key.value = text;
}

/**
 * A refused or failed request. `status` 0: the service could not be reached. `path`: the field that is wrong; `body`:
 * the answer, if it was a JSON object.
 */
export class ApiError extends Error {
  constructor(status, error, body = {}) {
    super(error?.message ?? `the service answered with status ${status}`);
    this.status = status;
    this.code = error?.code ?? "";
    this.path = error?.details?.path;
    this.requestId = error?.request_id;
    this.body = body;
  }
}

/** The address of a route: `path` may hold encoded ids; `query` leaves out what is undefined, null or "". */
export function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ""), BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

/** A path with ids: segments`/v1/agents/${id}/summary` encodes each id. */
export function segments(texts, ...ids) {
  return texts.reduce((path, text, index) => path + encodeURIComponent(ids[index - 1]) + text);
}

/**
 * Send a request and return the Response once its status says success. Raises ApiError.
 * `accept`: the media type to ask for. `signal`: an AbortSignal.
 */
export async function send(method, path, { query, body, accept, headers: more, signal: abort } = {}) {
  const headers = { ...more };
  const used = key.value;
  if (used) headers.Authorization = `Bearer ${used}`;
  if (accept) headers.Accept = accept;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  pending.value += 1;
  try {
    let response;
    try {
      response = await fetch(address(path, query), {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: abort,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: `${BASE.origin} cannot be reached: is the service running?` });
    }
    if (response.ok) return response;
    const answer = (await response.json().catch(() => null)) ?? {}; // a proxy answers with a page
    if (response.status === 401 && key.value === used) keyWanted.value = true;
    throw new ApiError(response.status, answer.error, answer);
  } finally {
    pending.value -= 1;
  }
}

/** Send a request; its answer as JSON. Raises ApiError. */
export async function api(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** The lines of an NDJSON answer, each parsed, as they arrive. Raises ApiError. */
export async function* lines(method, path, options) {
  const response = await send(method, path, { ...options, accept: "application/x-ndjson" });
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part) yield JSON.parse(part);
    }
    if (rest) yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}
