// The place in the console is the hash of the address, #/VIEW/PART/…?NAME=VALUE, so that it can be kept and sent.
import { signal } from "./html.js";

/** The present place: {view, parts: [decoded, …], params: {NAME: VALUE}}. */
export const place = signal(parse(location.hash));

addEventListener("hashchange", () => {
  place.value = parse(location.hash);
});

function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "", ...parts] = path.split("/").filter(Boolean).map(decoded);
  return { view, parts, params: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The number that a parameter or a field holds; undefined where it holds none. */
export const numberOf = (text) => (text?.trim() && Number.isFinite(Number(text)) ? Number(text) : undefined);

/** The link to a place. Parameters that are undefined, null or "" are left out. */
export function href(view, parts = [], params = {}) {
  const kept = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = kept.length ? `?${new URLSearchParams(kept)}` : "";
  return `#/${[view, ...parts].map(encodeURIComponent).join("/")}${query}`;
}

/** Go to a place. */
export function go(view, parts, params) {
  location.hash = href(view, parts, params);
}

/** Change parameters of the present place, without a new entry in the browser's history. */
export function setParams(changes) {
  const { view, parts, params } = place.value;
  const link = href(view, parts, { ...params, ...changes });
  if (link === location.hash) return;
  history.replaceState(null, "", link);
  place.value = parse(link);
}
