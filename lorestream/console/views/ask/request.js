// From the fields of the form, which are the parameters of the address, to the body of a search.

import { numberOf } from "../../core/router.js";

/** The names of the fields, with what an empty one means. */
export const FIELDS = {
  agent: "", q: "", mode: "hybrid", k: "5", type: "", filters: "", x: "", y: "", z: "", r: "",
  rel: "", rec: "", imp: "", half: "", normalise: "", min: "", neighbours: "", words: "", rerank: "", scope: "", old: "", at: "",
};

/** Only what is given: without undefined values and empty objects. */
function given(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined);
  return kept.length ? Object.fromEntries(kept) : undefined;
}

/** The filters: those written as JSON, and the type. Raises SyntaxError with what is wrong. */
export function filtersOf({ filters = "", type = "" }) {
  const written = filters.trim() ? JSON.parse(filters) : {};
  if (written === null || typeof written !== "object" || Array.isArray(written)) throw new SyntaxError("a JSON object is needed, such as {\"type\": \"dig\"}");
  return given({ ...written, ...(type ? { type } : {}) });
}

/** The body of POST /v1/memories/search for the fields; the service says what a condition lacks. Raises SyntaxError for filters that are no JSON object. */
export function searchOf(fields) {
  const { agent, q, mode = "hybrid", k = "5", x, y, z, r, rel, rec, imp, half, normalise, min, neighbours, words, rerank, scope, old, at } = fields;
  const near = given({ x: numberOf(x), y: numberOf(y), z: numberOf(z), radius: numberOf(r) });
  const weights = given({
    relevance: numberOf(rel), recency: numberOf(rec), importance: numberOf(imp), half_life_s: numberOf(half),
    normalise: normalise ? true : undefined,
  });
  return given({
    ...(scope === "tenant" ? { scope: "tenant" } : { agent_id: agent }),
    query: q || undefined,
    mode: q ? mode : undefined,
    k: numberOf(k),
    filters: filtersOf(fields),
    near,
    weights,
    min_score: numberOf(min),
    neighbours: numberOf(neighbours),
    time_words: words && q ? true : undefined,
    rerank: rerank && q ? true : undefined,
    superseded: old ? true : undefined,
    as_of: numberOf(at),
    explain: true,
  });
}

/** How much each part adds to a score: [[name, value]]. Their sum is the score, but for parts that lower it. */
export function partsOf(memory, weights) {
  const details = Object.entries(memory.score_details ?? {});
  const weightOf = (name) => weights[name] ?? (name === "relevance" ? 1 : 0);
  const blended = weights && details.some(([name]) => name === "recency" || name === "importance");
  if (!blended) return details;
  const sum = details.reduce((total, [name]) => total + weightOf(name), 0) || 1;
  return details.map(([name, value]) => [name, (Math.max(0, value) * weightOf(name)) / sum]);
}
