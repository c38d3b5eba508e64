// What differs between two JSON values, path by path.

/** The paths that were added, removed or changed: [{path, before, after}], where a missing side is undefined. */
export function differences(before, after) {
  const [old, fresh] = [new Map(leaves(before)), new Map(leaves(after))];
  const paths = [...new Set([...old.keys(), ...fresh.keys()])].sort();
  return paths.filter((path) => old.get(path) !== fresh.get(path)).map((path) => ({ path, before: old.get(path), after: fresh.get(path) }));
}

/** Every leaf of a value with its path, and its text as JSON. */
function* leaves(value, path = "") {
  const inner = value !== null && typeof value === "object" ? Object.entries(value) : [];
  if (!inner.length) yield [path, JSON.stringify(value)];
  for (const [name, each] of inner) yield* leaves(each, Array.isArray(value) ? `${path}[${name}]` : path ? `${path}.${name}` : name);
}
