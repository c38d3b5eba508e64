import { Operations } from "./operations.js";

/**
 * A client of Lorestream. Every method may be retried without a second effect: events and writes get ids here.
 *
 *     const lorestream = new LorestreamClient({ url: "http://127.0.0.1:8080" });
 *     await lorestream.add("npc:smith", "the miner owes me ten lumps", { waitMs: 5000 });
 *     const { memories } = await lorestream.search("npc:smith", "who owes me something?");
 *
 * Methods throw LorestreamError. Names of fields are those of the HTTP API. Where the methods are:
 *
 *     memories    writing, reading and deleting memories
 *     records     messages, tool calls, rewards, interactions, states
 *     documents   documents
 *     learning    Q-tables and policies
 *     operations  rewinds, webhooks, the service itself
 *
 * Each extends the one above it, and the first one `base`, which sends the calls.
 */
export class LorestreamClient extends Operations {}
