// The example of docs/integrations.md, run unchanged except for the address and the place of the package.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const page = new URL("../../../../docs/integrations.md", import.meta.url);
const file = new URL("../example.mjs", import.meta.url);

test("the example of the documentation runs", () => {
  const [, code] = /<!-- runnable: typescript -->\n```typescript\n(.*?)```/s.exec(readFileSync(page, "utf8")) ?? [];
  assert.ok(code);
  const address = process.env["LORESTREAM_URL"] ?? "http://127.0.0.1:8080";
  writeFileSync(file, code.replace('"lorestream"', '"./src/index.js"').replace("http://127.0.0.1:8080", address));
  const run = spawnSync(process.execPath, [fileURLToPath(file)], { encoding: "utf8", timeout: 60_000 });
  assert.equal(run.status, 0, run.stderr);
  assert.match(run.stdout, /the miner owes me ten lumps of iron/);
});
