// Dialogs: the browser's own <dialog>, which keeps the focus inside and closes on Escape.
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../core/html.js";
import { ErrorBox } from "./parts.js";
import { Field } from "./forms.js";
import { toast } from "./toast.js";

export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  const id = useId();
  // At once, not after the next frame: what is typed right after a click belongs into the dialog.
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus();
  }, []);
  return html`
    <dialog ref=${dialog} onClose=${onClose} aria-labelledby=${id}>
      <header><h2 id=${id}>${title}</h2><button type="button" class="small" aria-label="Close" onClick=${() => dialog.current.close()}>✕</button></header>
      ${children}
    </dialog>`;
}

/**
 * Asks for a name to be typed before something is done that cannot be undone. `name`: what must be typed;
 * `action`: the text of the button; `run()`: does it, and may return a promise; `onClose(done)` is called once. Closing
 * does not stop what has begun: then `onClose(false)` was the call, and an error is shown at the edge of the page.
 */
export function ConfirmByTyping({ title, name, action, run, onClose, children }) {
  const [typed, setTyped] = useState("");
  const [state, setState] = useState({ running: false, error: null });
  const shown = useRef(true);
  useEffect(() => () => {
    shown.current = false;
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    if (typed !== name || state.running) return;
    setState({ running: true, error: null });
    try {
      await run();
      if (shown.current) onClose(true);
    } catch (error) {
      if (shown.current) setState({ running: false, error });
      else toast(`${title}, ${name}: ${error.message}`, "bad");
    }
  };
  return html`
    <${Dialog} title=${title} onClose=${() => onClose(false)}>
      <form onSubmit=${submit}>
        <div>${children}</div>
        <${Field} label=${html`Type <code>${name}</code> to confirm`} value=${typed} onInput=${setTyped} autocomplete="off" spellcheck=${false} autofocus />
        ${state.error && html`<${ErrorBox} error=${state.error} />`}
        ${state.running && html`<p class="muted" role="status">Closing this does not stop it.</p>`}
        <div class="actions">
          <button type="submit" class="danger" disabled=${typed !== name || state.running}>${state.running ? "Working …" : action}</button>
        </div>
      </form>
    <//>`;
}
