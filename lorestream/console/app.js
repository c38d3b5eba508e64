// The frame of the console: navigation, key, theme, shortcuts, and the view that the address names.
import { Dialog, ErrorBox, Field, Loaded, Toasts, Toggle } from "./components/index.js";
import { key, keyWanted, pending, setKey } from "./core/api.js";
import { html, render, signal, useEffect, useErrorBoundary, useRef, useState } from "./core/html.js";
import { useLoad } from "./core/load.js";
import { go, href, place } from "./core/router.js";
import { VIEWS } from "./views/index.js";

const THEME = "lorestream.theme";
const THEMES = ["auto", "light", "dark"];
const LETTERS = "lorestream.shortcuts";
const letters = signal(localStorage.getItem(LETTERS) !== "off");
const theme = signal(localStorage.getItem(THEME) ?? "auto");
const dialog = signal(null);

function setTheme(name) {
  theme.value = name;
  localStorage.setItem(THEME, name);
  document.documentElement.dataset.theme = name;
}
setTheme(THEMES.includes(theme.value) ? theme.value : "auto");

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]);

function setLetters(on) {
  letters.value = on;
  localStorage.setItem(LETTERS, on ? "on" : "off");
}

const SHORTCUTS = [
  ["/", "to the search field of the view"],
  ["t", "light, dark, or as the system has it"],
  ["k", "the API key"],
  ["↑ ↓", "from line to line in a list of memories"],
  ["?", "this list"],
  ["Esc", "close a dialog"],
];

function App() {
  const { view: name } = place.value;
  const view = VIEWS.find((each) => each.path === name);
  const main = useRef(null);
  useShortcuts();
  useEffect(() => {
    if (!view) location.replace(href(VIEWS[0].path));
    else document.title = `${view.title} – Lorestream`;
  }, [view]);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header class="top">
      <a class="brand" href=${href(VIEWS[0].path)}>Lorestream</a>
      <nav aria-label="Views">
        ${VIEWS.map((each) => html`<a href=${href(each.path)} aria-current=${each === view ? "page" : undefined}>${each.title}</a>`)}
      </nav>
      <div class="tools">
        <button type="button" class="small" onClick=${() => (dialog.value = "key")}>${key.value ? "Key set" : "Key"}</button>
        <button type="button" class="small" onClick=${nextTheme} title="Theme (t)">Theme: ${theme.value}</button>
        <button type="button" class="small" aria-label="Shortcuts" title="Shortcuts (?)" onClick=${() => (dialog.value = "help")}>?</button>
      </div>
      <div class="busy" data-on=${pending.value > 0} aria-hidden="true"></div>
    </header>
    <main id="main" ref=${main} tabindex="-1">
      ${keyWanted.value ? html`<${Login} />` : view && html`<${Loader} key=${`${view.path} ${key.value}`} view=${view} />`}
    </main>
    <${Toasts} />
    ${dialog.value === "help" && html`<${Help} />`}
    ${dialog.value === "key" && html`<${KeyDialog} />`}`;
}

/** The view, made anew for another key too: nothing that was read or begun with the one before stays. */
function Loader({ view }) {
  const loaded = useLoad(() => view.load(), [view]);
  const [fault, again] = useErrorBoundary((error) => console.error(error));
  if (fault) return html`<${ErrorBox} error=${fault} retry=${again} />`;
  return html`<${Loaded} of=${loaded} label=${`Loading ${view.title}`}>${(module) => html`<${module.View} />`}<//>`;
}

function Login() {
  return html`
    <section class="panel narrow">
      <h1>${key.value ? "This key is not valid" : "An API key is needed"}</h1>
      <p>This service answers only to callers with an API key. It stays in this tab, and is forgotten when the tab is closed.</p>
      <${KeyForm} />
      <p class="muted">An operator makes one with <code>lorestream keys create --tenant NAME --scope query</code>. The list of agents needs the scope <code>admin</code>, erasing needs <code>erase</code>.</p>
    </section>`;
}

function KeyForm({ done }) {
  const [text, setText] = useState("");
  const submit = (event) => {
    event.preventDefault();
    setKey(text.trim());
    done?.();
  };
  return html`
    <form onSubmit=${submit}>
      <${Field} label="API key" type="password" value=${text} onInput=${setText} autocomplete="off" spellcheck=${false} placeholder="ID.SECRET" />
      <div class="actions">
        <button type="submit" disabled=${!text.trim()}>Use this key</button>
        ${key.value && html`<button type="button" onClick=${() => { setKey(""); done?.(); }}>Forget the key</button>`}
      </div>
    </form>`;
}

const close = () => {
  dialog.value = null;
};

const KeyDialog = () => html`
  <${Dialog} title="API key" onClose=${close}>
    <p>${key.value ? "A key is set for this tab." : "No key is set. A service without API keys needs none."}</p>
    <${KeyForm} done=${close} />
  <//>`;

const Help = () => html`
  <${Dialog} title="Shortcuts" onClose=${close}>
    <p><${Toggle} label="Single keys are shortcuts" checked=${letters.value} onChange=${setLetters} /></p>
    <dl class="keys">
      ${VIEWS.map((each) => html`<dt><kbd>g</kbd> <kbd>${each.key}</kbd></dt><dd>${each.title}</dd>`)}
      ${SHORTCUTS.map(([name, text]) => html`<dt><kbd>${name}</kbd></dt><dd>${text}</dd>`)}
    </dl>
    <p class="muted">Everything here is done by the public API: <a href="docs">its documentation</a>, <a href="openapi.json">openapi.json</a>.</p>
  <//>`;

function useShortcuts() {
  useEffect(() => {
    let leading = false;
    const pressed = (event) => {
      if (!letters.value || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, dialog")) return;
      const after = leading;
      leading = event.key === "g" && !after;
      const view = after && VIEWS.find((each) => each.key === event.key);
      if (view) go(view.path);
      else if (event.key === "/") {
        const field = document.querySelector("[data-search]");
        if (!field) return;
        field.focus();
      } else if (event.key === "?") dialog.value = "help";
      else if (event.key === "t") nextTheme();
      else if (event.key === "k") dialog.value = "key";
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

const app = document.getElementById("app");
app.replaceChildren();
render(html`<${App} />`, app);
