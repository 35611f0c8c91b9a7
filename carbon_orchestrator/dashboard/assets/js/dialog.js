// Dialogs and notices.
import { h } from "./dom.js";

/**
 * Open a dialog with this content; gives the dialog, whose `close` event ends it. Focus goes to
 * what has autofocus (else the first control) and back to where it was.
 */
export function openDialog(title, ...content) {
  const before = document.activeElement;
  const heading = h("h2", { id: `dialog-${(openDialog.count = (openDialog.count ?? 0) + 1)}` }, title);
  const dialog = h("dialog", { "aria-labelledby": heading.id }, heading, ...content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask yes or no: true where `action` was chosen. `body`: text or nodes. */
export function confirm({ title, body, action, danger = false }) {
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog" },
      h("div", {}, body),
      h(
        "div",
        { class: "actions" },
        h("button", { value: "no", autofocus: true }, "Cancel"),
        h("button", { value: "yes", class: danger ? "danger" : "primary" }, action),
      ),
    );
    const dialog = openDialog(title, form);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

/** Ask for an API key: the key, or null. */
export function askKey(why) {
  return new Promise((resolve) => {
    const input = h("input", { id: "api-key", type: "password", autocomplete: "off", spellcheck: "false", placeholder: "co_…", autofocus: true });
    const form = h(
      "form",
      { method: "dialog" },
      h("p", {}, why),
      h("div", { class: "field" }, h("label", { for: "api-key" }, "API key"), input),
      h("p", { class: "muted small" }, "Kept in this tab until it is closed. An operator makes one with ", h("code", {}, "carbon-orchestrator keys create"), "."),
      h(
        "div",
        { class: "actions" },
        h("button", { value: "no", type: "button", onclick: () => dialog.close("no") }, "Not now"),
        h("button", { value: "yes", class: "primary" }, "Use this key"),
      ),
    );
    const dialog = openDialog("An API key is needed", form);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? input.value.trim() || null : null));
  });
}

/** Say something in passing, also to screen readers. */
export function notice(message, tone = "") {
  const node = h("div", { class: "notice", dataset: { tone } }, message);
  document.getElementById("notices").append(node);
  setTimeout(() => node.remove(), tone === "bad" ? 10_000 : 5000);
}
