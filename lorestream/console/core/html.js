// Preact with htm: `html` makes elements from template literals. Texts are always text: nothing here makes markup.
import htm from "../lib/htm.js";
import { useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useRef, useState } from "../lib/hooks.js";
import { h, render } from "../lib/preact.js";

export { signal } from "../lib/signals.js";
export { render, useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useRef, useState };
export const html = htm.bind(h);

// Leaflet asks the browser once what it can draw, by these two texts. No other text becomes markup.
const HARMLESS = ["<svg/>", '<v:shape adj="1"/>'];
globalThis.trustedTypes?.createPolicy("default", { createHTML: (text) => (HARMLESS.includes(text) ? text : null) });

/** A vendored library, once it is loaded: {loaded, error}. `variable`: the global variable that it defines. */
export function useLibrary(name, variable) {
  const [state, setState] = useState({});
  useEffect(() => {
    library(name, variable).then(
      (loaded) => setState({ loaded }),
      (error) => setState({ error }),
    );
  }, []);
  return state;
}

/** Load a library that is a classic script, once. Resolves to the global variable that it defines. */
function library(name, variable) {
  libraries[name] ??= new Promise((resolve, reject) => {
    const base = new URL("../lib/", import.meta.url);
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL(`${name}.css`, base).href;
    const script = document.createElement("script");
    const policy = globalThis.trustedTypes?.createPolicy(`lorestream-${name}`, { createScriptURL: (url) => url });
    const url = new URL(`${name}.js`, base).href;
    script.src = policy ? policy.createScriptURL(url) : url;
    script.onerror = () => reject(new Error(`${name}.js could not be loaded: reload the page`));
    style.onerror = () => reject(new Error(`${name}.css could not be loaded: reload the page`));
    style.onload = () => document.head.append(script);
    script.onload = () => resolve(globalThis[variable]);
    document.head.append(style);
  });
  return libraries[name];
}
const libraries = {};
