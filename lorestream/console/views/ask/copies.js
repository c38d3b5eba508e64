// The same search as a command or as code of another language.
import { BASE } from "../../core/api.js";

/** {name: text} of a search with the body `body`. */
export function copiesOf(body) {
  const { explain: _, ...search } = body;
  return { curl: curl(search), Python: python(search), Lua: lua(search), MCP: mcp(search) };
}

const curl = (search) =>
  `curl -s ${BASE.href}v1/memories/search \\\n  -H "Authorization: Bearer $LORESTREAM_API_KEY" \\\n  -d '${JSON.stringify(search).replaceAll("'", "'\\''")}'`;

function python({ agent_id: agent, query, ...options }) {
  const values = Object.entries(options).filter(([name]) => name !== "scope");
  const named = values.map(([name, value]) => `        ${name}=${pythonValue(value)},\n`).join("");
  return `from lorestream.client import MemoryClient

with MemoryClient("${BASE.href.replace(/\/$/, "")}") as memories:
    answer = memories.search(
        ${pythonValue(agent ?? "npc:NAME")},
        ${pythonValue(query ?? null)},
${named}    )
    for memory in answer.memories:
        print(f"{memory.score:.3f} {memory.text}")`;
}

function pythonValue(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${pythonValue(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}

function lua({ agent_id: agent, ...options }) {
  return `lorestream.recall(${luaValue(agent ?? "npc:NAME")}, ${luaValue(options)}, function(memories, err)
    for _, memory in ipairs(memories) do
        minetest.log(memory.text)
    end
end)`;
}

function luaValue(value) {
  if (value === null) return "nil";
  if (typeof value === "string") return luaString(value);
  if (Array.isArray(value)) return `{${value.map(luaValue).join(", ")}}`;
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(([name, each]) => `${/^[A-Za-z_]\w*$/.test(name) && !RESERVED.has(name) ? name : `[${luaString(name)}]`} = ${luaValue(each)}`);
    return `{${pairs.join(", ")}}`;
  }
  return String(value);
}

const RESERVED = new Set(["and", "or", "not", "in", "end", "if", "then", "else", "for", "do", "nil", "true", "false", "repeat", "return", "local", "function", "while", "until", "break", "elseif", "goto"]);
// Lua knows \n and \ddd with three decimal digits, but not \uXXXX as JSON writes it.
const luaString = (text) => `"${text.replace(/["\\]/g, "\\$&").replace(/[\u0000-\u001f\u007f]/g, (each) => `\\${String(each.charCodeAt(0)).padStart(3, "0")}`)}"`;

/** The tool of MCP has fewer arguments; its `recency` is the weight of recency beside a relevance of 1. */
function mcp({ agent_id: agent = "npc:NAME", query, k, mode, filters, min_score: least, weights, as_of: at, superseded }) {
  const recency = weights?.recency === undefined ? undefined : weights.recency / (weights.relevance || 1);
  const args = { agent_id: agent, query, k, mode, filters, min_score: least, recency, as_of: at, superseded };
  return JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "recall", arguments: args } }, null, 2);
}
