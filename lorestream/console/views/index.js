// The views, in the order of the navigation. A view is a module of this folder that exports the component `View`; it
// is loaded when it is first shown. `path`: its place in the address; `key`: the letter that, after g, leads to it.
export const VIEWS = [
  { path: "agents", title: "Agents", key: "a", load: () => import("./agents.js") },
  { path: "ask", title: "Ask", key: "s", load: () => import("./ask.js") },
  { path: "map", title: "Map", key: "m", load: () => import("./map.js") },
  { path: "live", title: "Live", key: "l", load: () => import("./live.js") },
  { path: "pipeline", title: "Pipeline", key: "p", load: () => import("./pipeline.js") },
  { path: "dead", title: "Dead letters", key: "d", load: () => import("./dead.js") },
  { path: "index", title: "Index", key: "i", load: () => import("./collections.js") },
  { path: "likeness", title: "Likeness", key: "n", load: () => import("./likeness.js") },
  { path: "admin", title: "Admin", key: "o", load: () => import("./admin.js") },
];
