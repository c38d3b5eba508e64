// What the map asks for.

/** The seconds that count as the last minutes. */
export const RECENT_S = 300;
/** The side of a cell before the extent is known, in nodes. */
export const FIRST_CELL = 64;
const MOST_CELLS_ACROSS = 96;

/** The times that can be chosen: [name, text, seconds]. */
export const SINCE = [["", "all"], ["hour", "last hour", 3600], ["day", "last day", 86400], ["week", "last week", 604800]];

/** Whose memories: those of an agent, or of the whole tenant. */
export const scopeOf = (agent) => (agent ? { agent_id: agent } : { scope: "tenant" });

/** The side of a cell, a power of two, so that at most MOST_CELLS_ACROSS lie beside each other. */
export function cellFor({ x, z }) {
  const extent = Math.max(x[1] - x[0], z[1] - z[0]);
  let cell = 1;
  while (extent / cell > MOST_CELLS_ACROSS) cell *= 2;
  return cell;
}
