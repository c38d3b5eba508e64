export type { ReadOptions, StateOptions, WriteOptions } from "./base.js";
export { LorestreamClient } from "./client.js";
export { LorestreamError } from "./errors.js";
export { MemoryStream, type StreamOptions } from "./stream.js";
export type { Call, CallOptions, ClientOptions } from "./transport.js";
export type * from "./types.js";
export type { components, paths } from "./openapi.js";
