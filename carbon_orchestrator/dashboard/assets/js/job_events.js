// The events about a job, as they are on record: asked for when somebody looks.
import { get, words } from "./api.js";
import { h, replace, text } from "./dom.js";
import { fullTime } from "./format.js";

const PATIENCE = 20; // requests for one page, where they come short

/** Gives `show(job)`. */
export function jobEvents(root, path, signal) {
  const list = h("ol", { class: "record" });
  const told = h("p", { class: "muted small", role: "status" });
  const more = h("button", { type: "button", onclick: () => read() }, "Show more");
  const details = h("details", {}, h("summary", {}, "What is on record about this job"), told, list, more);
  more.hidden = true;
  root.append(details);
  let next = null;
  let number = 0;
  let busy = false;
  let stale = true;
  let latest = null;

  async function read() {
    if (busy) return;
    busy = true;
    more.disabled = true;
    text(told, "Looking through the streams…");
    try {
      for (let i = 0; i < PATIENCE; i++) {
        const page = await get(`${path}/events?limit=100${next ? `&cursor=${encodeURIComponent(next)}` : ""}`, { signal });
        for (const each of page.events) list.append(item(each));
        number += page.events.length;
        next = page.next;
        if (page.incomplete) text(told, page.incomplete);
        if (page.events.length || next === null) break;
      }
      text(told, number ? "" : "Nothing is on record any more.");
    } catch (error) {
      if (!signal.aborted) text(told, `The events cannot be told: ${words(error)}.`);
    } finally {
      busy = false;
      more.disabled = false;
      more.hidden = next === null;
    }
  }

  function look() {
    if (!details.open || !stale || busy) return;
    stale = false;
    next = null;
    number = 0;
    replace(list);
    read();
  }

  details.addEventListener("toggle", look);
  return (job) => {
    if (latest && (latest.state !== job.state || latest.timeline.length !== job.timeline.length)) stale = true;
    latest = job;
    if (!list.children.length) look();
  };
}

function item(event) {
  return h(
    "li",
    {},
    h(
      "details",
      {},
      h("summary", {}, h("strong", {}, event.type), " ", h("span", { class: "mono" }, `${event.stream} ${event.id}`), ` · ${fullTime(event.at)}${event.source ? ` · by ${event.source}` : ""}`),
      h("pre", { class: "block", tabindex: "0", "aria-label": event.type }, JSON.stringify(event.data, null, 2)),
    ),
  );
}
