// Against a running Lorestream, whose address is LORESTREAM_URL: npm test
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { type Event, LorestreamClient, LorestreamError, type Memory } from "../src/index.js";

const url = process.env["LORESTREAM_URL"] ?? "http://127.0.0.1:8080";
const client = new LorestreamClient({ url });
const agent = (): string => `npc:${randomUUID()}/ö`;
const code = (wanted: string) => (error: unknown) => error instanceof LorestreamError && error.code === wanted;

test("what is remembered is found, listed, read and forgotten", async () => {
  const smith = agent();
  const event: Partial<Event> = { type: "debt", importance: 9, metadata: { sum: 10 }, id: "debt-1" };
  const receipt = await client.add(smith, "the miner owes me ten lumps", { event, waitMs: 10_000 });
  assert.equal(receipt.indexed, true);
  const id = receipt.ids[0];
  assert.ok(id);
  assert.deepEqual((await client.add(smith, "the miner owes me ten lumps", { event })).ids, [id]);
  await client.addBatch([{ agent_id: smith, text: "the lake is frozen", time: 1000 }], { waitMs: 10_000 });

  const { memories } = await client.search(smith, "who owes me lumps", { k: 1, explain: true });
  assert.equal(memories[0]?.text, "the miner owes me ten lumps");
  assert.ok((memories[0]?.score ?? 0) > 0);
  assert.deepEqual((await client.search([smith], null, { filters: { sum: { gte: 11 } } })).memories, []);
  assert.match((await client.context(smith, "lumps", { token_budget: 100 })).text, /the miner owes me ten lumps/);

  assert.equal((await client.get(id, smith)).metadata["sum"], 10);
  assert.deepEqual((await client.getMany(smith, [randomUUID(), id])).map((one) => one.id), [id]);
  const page = await client.recent(smith, { limit: 1, order: "oldest" });
  assert.deepEqual([page.total, page.memories[0]?.text], [2, "the lake is frozen"]);
  assert.equal((await client.recent(smith, { filters: { type: "debt" } })).total, 1);
  const all: string[] = [];
  for await (const memory of client.all(smith, { limit: 1 })) all.push(memory.text);
  assert.deepEqual(all, ["the miner owes me ten lumps", "the lake is frozen"]);
  assert.deepEqual((await client.summary(smith)).by_type, { debt: 1, "": 1 });
  assert.deepEqual(await client.agents(10, { prefix: smith }), [{ agent_id: smith, total: 2 }]);
  const [{ vector } = {}] = await client.getMany(smith, [id], { vectors: true });
  assert.ok(vector && Buffer.from(vector, "base64").length % 4 === 0);

  const deleted = await client.delete(id, smith);
  assert.equal((await client.search(smith, null, { after: deleted.token, wait_ms: 10_000 })).memories.length, 1);
  const erasure = await client.forget(smith);
  assert.equal((await client.search(smith, null, { after: erasure.token, wait_ms: 10_000 })).memories.length, 0);
  while (!(await client.erasureDone(erasure)));
  assert.equal((await client.erasures(1000)).find((one) => one.erasure_id === erasure.erasure_id)?.state, "done");
});

test("a memory is superseded, and relations are counted", async () => {
  const smith = agent();
  const event: Partial<Event> = { about: ["npc:miner"], metadata: { valence: -1 } };
  const { ids } = await client.add(smith, "the miner owes me ten lumps", { event, waitMs: 10_000 });
  const paid = await client.supersede(ids[0] ?? "", smith, "the miner paid", { event, waitMs: 10_000 });
  assert.deepEqual((await client.recent(smith)).memories.map((one) => one.id), [paid.id]);
  const all = await client.search(smith, "miner", { superseded: true });
  assert.equal(all.memories.find((one) => one.id === ids[0])?.superseded_by, paid.id);
  assert.deepEqual((await client.relations(smith)).map((one) => [one.with, one.total, one.valence]), [["npc:miner", 1, -1]]);
});

test("a search explains itself, and a world goes back", async () => {
  const smith = agent();
  const server = randomUUID();
  const old = { agent_id: smith, text: "the lake is frozen", time: 1000 };
  const { ids } = await client.addBatch([old], { server, waitMs: 10_000 });
  const why = await client.explain(smith, ids[0] ?? "", "the lake", { k: 1 });
  assert.equal(why.rank, 1);
  const backup = Date.now() / 1000 - 3600;
  await client.add(smith, "the forge burns", { server, event: { time: backup + 60 }, waitMs: 10_000 });
  const rewound = await client.rewind(server, 2000);
  const read = { after: rewound.token, wait_ms: 10_000 };
  assert.ok((await client.search(smith, null, read)).memories.every((one) => one.text !== "the forge burns"));
  assert.ok((await client.rewinds()).some((one) => one.rewind_id === rewound.rewind_id));
  assert.equal((await client.findRewind(rewound.rewind_id)).server, server);
  assert.deepEqual(await client.rewindSize(randomUUID(), 0), { memories: 0, agents: 0 });
  const undone = await client.undoRewind(rewound.rewind_id);
  const again = await client.search(smith, null, { after: undone.token, wait_ms: 10_000 });
  assert.ok(again.memories.some((one) => one.text === "the forge burns"));
});

test("memories have a place on the map and among those that are alike", async () => {
  const smith = agent();
  const pos = { x: 100, y: 8, z: -40 };
  for (const text of ["the lake is frozen", "the forge burns"]) await client.add(smith, text, { event: { pos }, waitMs: 10_000 });
  const { places, total } = await client.places(smith, { cell: 16 });
  assert.deepEqual([total, places[0]?.count, places[0]?.x, places[0]?.z], [2, 2, 96, -48]);
  assert.ok((await client.places(null)).total >= 2);
  assert.equal((await client.likeness([smith], { limit: 1 })).points.length, 1);
});

test("a webhook gets what becomes findable, signed, until it is removed", async () => {
  const smith = agent();
  const received: { headers: IncomingHttpHeaders; body: string }[] = [];
  const receiver = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      received.push({ headers: request.headers, body: Buffer.concat(parts).toString() });
      response.writeHead(204).end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  try {
    const address = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/in`;
    const made = await client.createWebhook(address, { filter: { agent_id: smith }, secret: "s3cret" });
    assert.ok((await client.webhooks()).some((one) => one.id === made.id && one.state === "active"));
    assert.deepEqual([(await client.tryWebhook(made.id)).ok, (await client.resumeWebhook(made.id)).id], [true, made.id]);
    await client.add(smith, "the lake is frozen");
    const texts = (): string[] => received.flatMap((one) => JSON.parse(one.body).memories.map((memory: Memory) => memory.text));
    while (!texts().length) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(texts(), ["the lake is frozen"]);
    for (const { headers, body } of received) {
      const signature = `sha256=${createHmac("sha256", "s3cret").update(body).digest("hex")}`;
      assert.equal(headers["x-lorestream-signature"], signature);
    }
    await client.deleteWebhook(made.id);
    assert.ok((await client.webhooks()).every((one) => one.id !== made.id));
    await assert.rejects(client.tryWebhook(made.id), code("not_found"));
  } finally {
    receiver.close();
  }
});

test("messages and records are written and read", async () => {
  const smith = agent();
  await client.message(smith, "Good day!", { role: "user", conversation: "tavern" }, { waitMs: 10_000 });
  for (const value of [1, 2.5]) await client.record(smith, "reward", { value }, { waitMs: 10_000 });
  const said = await client.recent(smith, { conversation: "tavern", type: "message" });
  assert.equal(said.memories[0]?.metadata["role"], "user");
  assert.equal((await client.messages(smith, { conversation: "tavern" })).total, 1);
  await client.reward(smith, 3, { components: { ore: 3 }, waitMs: 10_000 });
  assert.deepEqual((await client.rewards(smith)).memories.map((one) => one.metadata["value"]), [3, 2.5, 1]);
  await client.tool(smith, "hammer", { input: { n: 1 }, ok: true }, { waitMs: 10_000 });
  assert.equal((await client.recent(smith, { type: "tool" })).memories[0]?.metadata["tool"], "hammer");
  await client.interaction(smith, "mend it", "done", { feedback: "good", waitMs: 10_000 });
  assert.equal((await client.interactions(smith)).memories[0]?.metadata["feedback"], "good");
  const put = await client.putState(smith, new Uint8Array([0, 128, 255]), { codec: "raw" }, { waitMs: 10_000 });
  const state = await client.state(put.ids[0] ?? "", smith);
  assert.deepEqual([[...state.data], state.codec, state.metadata], [[0, 128, 255], "raw", {}]);
  assert.deepEqual((await client.states(smith)).states, [state]);
  await assert.rejects(client.state(said.memories[0]?.id ?? "", smith), code("not_found"));
  const { buckets } = await client.aggregate(smith, { type: "reward", field: "metadata.value" });
  assert.deepEqual([buckets[0]?.count, buckets[0]?.sum], [3, 6.5]);
});

test("documents, Q-tables and policies are written, read and versioned", async () => {
  const smith = agent();
  const first = await client.putEntity("character", smith, { name: "Ada", goals: ["iron"] }, { ifVersion: 0, waitMs: 10_000 });
  assert.deepEqual([first.applied, first.version], [true, 1]);
  await assert.rejects(client.putEntity("character", smith, {}, { ifVersion: 7, waitMs: 10_000 }), code("version_conflict"));
  await client.patchEntity("character", smith, { goals: null }, { eventId: "patch", waitMs: 10_000 });
  assert.deepEqual((await client.entity("character", smith)).data, { name: "Ada" });
  assert.deepEqual((await client.entity("character", smith, { version: 1 })).data, { name: "Ada", goals: ["iron"] });
  assert.equal((await client.entityWrite("character", smith, "patch")).version, 2);
  await client.rollback("character", smith, 1, { waitMs: 10_000 });
  assert.deepEqual((await client.versions("character", smith)).versions.map((one) => one.version), [3, 2, 1]);
  assert.equal((await client.entities("character", { prefix: smith })).entities.length, 1);
  await client.deleteEntity("character", smith, { waitMs: 10_000 });
  await assert.rejects(client.entity("character", smith), code("not_found"));

  const { token } = await client.qUpdate(smith, [{ state: "s", action: "dig", op: "set", value: 0.5 }]);
  const values = await client.qValues(smith, ["s", "unknown"], { after: token, waitMs: 10_000 });
  assert.deepEqual(values.values, { s: { dig: { q: 0.5, n: 1 } } });
  assert.deepEqual((await client.qTable(smith)).values, values.values);
  const bytes = new Uint8Array([0, 1, 255]);
  const stored = await client.putPolicy(smith, bytes, { format: "raw", waitMs: 10_000 });
  const policy = await client.policy(smith, { after: stored.token, waitMs: 10_000 });
  assert.deepEqual([[...policy.data], policy.version], [[0, 1, 255], 1]);
  assert.match(policy.sha256, /^[0-9a-f]{64}$/);
  assert.equal((await client.rollbackPolicy(smith, 1, { waitMs: 10_000 })).version, 2);
  const deleted = await client.deletePolicy(smith, { eventId: "gone", waitMs: 10_000 });
  assert.deepEqual((await client.policyVersions(smith)).versions.map((one) => one.deleted), [true, false, false]);
  assert.equal((await client.policyWrite(smith, "gone", { after: deleted.token })).version, 3);
  assert.equal((await client.qWrite(smith, "none").catch((error: LorestreamError) => error.code)), "not_found");
});

test("the service says whether it can do its job, and its version", async () => {
  assert.equal((await client.check()).status, "ok");
  const { status, checks } = await client.ready();
  assert.deepEqual([status, checks["store"]], ["ok", "ok"]);
  assert.match(await client.version(), /^\d+\.\d+\.\d+$/);
  const starting = () => Response.json({ status: "unavailable", checks: { store: "opening" } }, { status: 503 });
  const script = scripted(starting);
  assert.equal((await new LorestreamClient({ fetch: script.fetch }).ready()).checks["store"], "opening");
});

test("errors have the code and the path of what is wrong", async () => {
  await assert.rejects(client.search("npc:x", "q", { filters: { type: { like: "x" } } }), (error: LorestreamError) => {
    assert.deepEqual([error.code, error.status, error.retryable], ["invalid_filter", 400, false]);
    assert.ok(error.message.startsWith("filters.type"));
    assert.ok(error.requestId);
    return true;
  });
  await assert.rejects(client.add("npc:x", "y".repeat(20_000)), (error: LorestreamError) => {
    assert.deepEqual([error.code, error.details["code"]], ["rejected", "event_too_large"]);
    return true;
  });
  await assert.rejects(client.add("npc:x", "y", { event: { ttl: Number.NaN } }), code("invalid_value"));
  await assert.rejects(client.summary(".."), code("invalid_value"));
  const nobody = new LorestreamClient({ url: "http://127.0.0.1:9", retryTimeoutMs: 0 });
  await assert.rejects(nobody.summary("npc:x"), code("unreachable"));
});

test("a stream yields what becomes findable, and goes on behind its last event", async () => {
  const smith = agent();
  const aborts = new AbortController();
  const stream = client.stream({ agentId: smith, signal: aborts.signal });
  const seen: string[] = [];
  const following = (async () => {
    for await (const memory of stream) {
      seen.push(memory.text);
      aborts.abort();
    }
  })();
  while (stream.lastEventId === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
  await client.add(smith, "one", { waitMs: 10_000 });
  await following;
  assert.deepEqual(seen, ["one"]);

  await client.add(smith, "two", { waitMs: 10_000 });
  for await (const memory of client.stream({ agentId: smith, lastEventId: stream.lastEventId ?? "" })) {
    assert.equal(memory.text, "two");
    break;
  }
});

/** A fetch that gives these answers one after the other and keeps the requests. */
function scripted(...answers: (() => Response | Promise<Response>)[]) {
  const requests: { url: string; init: RequestInit }[] = [];
  const scriptedFetch: typeof fetch = async (input, init = {}) => {
    requests.push({ url: String(input), init });
    const answer = answers.shift();
    assert.ok(answer, "one request too many");
    return answer();
  };
  return { requests, fetch: scriptedFetch };
}

const overloaded = (status: number, retry_after_ms: number) => () =>
  Response.json({ error: { code: "overloaded", message: "later", retry_after_ms, details: {} } }, { status });
const accepted = () => Response.json({ accepted: 1, rejected: [], ids: ["m"], token: "t", retry_after_ms: 0 }, { status: 202 });

test("overload, outages and broken connections are retried with the same ids", async () => {
  const script = scripted(overloaded(429, 1), overloaded(503, 1), () => Promise.reject(new TypeError("broken")), accepted);
  const retrying = new LorestreamClient({ url: "http://gateway/", queryUrl: "http://query", apiKey: "a.b", fetch: script.fetch });
  await retrying.add("npc:x", "text");
  const bodies = new Set(script.requests.map(({ init }) => init.body));
  assert.deepEqual([script.requests.length, bodies.size], [4, 1]);
  assert.match(JSON.parse(String([...bodies][0])).events[0].id, /^[0-9a-f-]{36}$/);
  assert.equal(script.requests[0]?.url, "http://gateway/v1/events");
  assert.equal((script.requests[0]?.init.headers as Record<string, string>)["Authorization"], "Bearer a.b");
});

test("ids are made where randomUUID is missing, as in a page that came by http", async (context) => {
  context.mock.method(crypto, "randomUUID", () => assert.fail("it is missing"));
  const receipt = () => Response.json({ ids: [], rejected: [] });
  const script = scripted(receipt, receipt, receipt, receipt, receipt);
  const plain = new LorestreamClient({ fetch: script.fetch });
  await plain.add("npc:x", "text");
  await plain.supersede("m", "npc:x", "text");
  await plain.qUpdate("npc:x", []);
  await plain.putPolicy("npc:x", new Uint8Array(1));
  await plain.rewind("survival", 0);
  const sent = script.requests.map(({ url, init }) => url + String(init.body));
  const ids = sent.map((text) => /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/.exec(text)?.[0]);
  assert.ok(!ids.includes(undefined));
  assert.equal(new Set(ids).size, 5);
});

test("an error that is none of Lorestream's has no code of the server", async () => {
  for (const error of ["Bad Gateway", { message: "no code" }, null, { code: 502 }]) {
    const foreign = scripted(() => Response.json({ error }, { status: 502 }), accepted);
    await new LorestreamClient({ fetch: foreign.fetch }).add("npc:x", "text"); // a proxy's 502 is retried
    const missing = scripted(() => Response.json({ error }, { status: 404 }));
    await assert.rejects(new LorestreamClient({ fetch: missing.fetch }).summary("npc:x"), code("not_lorestream"));
  }
});

test("retries end with their time, and what cannot succeed is not repeated", async () => {
  const patient = scripted(overloaded(503, 60_000));
  const limited = new LorestreamClient({ fetch: patient.fetch, retryTimeoutMs: 1000 });
  await assert.rejects(limited.summary("npc:x"), (error: LorestreamError) => error.retryable && error.retryAfterMs === 60_000);
  const wrong = scripted(() => new Response("<html>", { status: 200 }));
  await assert.rejects(new LorestreamClient({ fetch: wrong.fetch }).summary("npc:x"), code("not_lorestream"));
});

test("a call ends by its timeout or by its signal", async () => {
  const hanging: typeof fetch = (_input, init) =>
    new Promise((_resolve, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)));
  const slow = new LorestreamClient({ fetch: hanging, timeoutMs: 5, retryTimeoutMs: 0 });
  await assert.rejects(slow.summary("npc:x"), code("timeout"));
  const aborts = new AbortController();
  const call = new LorestreamClient({ fetch: hanging }).summary("npc:x", { signal: aborts.signal });
  aborts.abort(new Error("no longer needed"));
  await assert.rejects(call, /no longer needed/);
});
