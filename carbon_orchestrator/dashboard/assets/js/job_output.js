// What a job writes, followed while it runs.
import { request, words } from "./api.js";
import { ENDED } from "./cancel.js";
import { h, text } from "./dom.js";
import { count } from "./format.js";
import { Plain } from "./terminal.js";

const MOST = 200_000; // characters that are kept on the page
const KEPT = 150_000; // of them, once there are more
const AGAIN_MS = [1000, 2000, 5000];
/** Gives `show(job)`. */
export function jobOutput(root, path, signal) {
  const said = h("p", { class: "muted small", role: "status" });
  const failure = h("p", { class: "failure", hidden: true });
  const written = document.createTextNode("");
  const box = h("pre", { class: "block log", tabindex: "0", "aria-label": "Output", hidden: true }, written);
  root.append(said, failure, box);
  const plain = new Plain();
  let offset = 0; // bytes of the output that were read
  let begun = null; // offset of the first byte that is shown
  let cut = false;
  let busy = false;
  let ended = false; // all of it is here
  let latest = null;
  let failures = 0;
  let reading = new AbortController();

  function append(chunk, last = false) {
    const { erase, text: more } = plain.push(chunk, last);
    if (!erase && !more) return;
    const follows = box.hidden || box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.hidden = false;
    const from = Math.max(0, written.length - erase);
    written.replaceData(from, written.length - from, more);
    if (written.length > MOST) {
      const line = written.data.indexOf("\n", written.length - KEPT);
      written.deleteData(0, line < 0 ? written.length - KEPT : line + 1);
      cut = true;
    }
    if (follows) box.scrollTop = box.scrollHeight;
  }

  async function read(follow) {
    const response = await request(`${path}/logs?offset=${offset}${follow ? "&follow=true" : ""}`, { signal: AbortSignal.any([signal, reading.signal]), headers: { Accept: "text/plain" } });
    failure.hidden = true;
    const first = Number(response.headers.get("Carbon-Log-Offset") ?? offset);
    if (first > offset && begun !== null) append(`\n… ${count(first - offset)} bytes are no longer kept …\n`);
    begun ??= first;
    offset = first;
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      failures = 0;
      if (done) return append(decoder.decode(), ENDED.has(latest.state));
      offset += value.byteLength;
      append(decoder.decode(value, { stream: true }));
      tell();
    }
  }

  /** Once at a time: to the end while it runs, else what there is. */
  async function go() {
    if (busy || ended || !latest || document.hidden) return;
    const { state, attempts } = latest;
    if (!ENDED.has(state) && state !== "running" && attempts === 0) return;
    busy = true;
    reading = new AbortController();
    try {
      await read(state === "running");
      ended = ENDED.has(state);
    } catch (error) {
      if (signal.aborted || document.hidden) return;
      if (error.name !== "TypeError") {
        failure.hidden = false; // else the connection broke: it is taken up again where it was
        text(failure, `The output cannot be told: ${words(error)}.`);
      }
      if (error.status === 404) ended = true;
    } finally {
      busy = false;
    }
    tell();
    if (!ended && (latest.state === "running" || ENDED.has(latest.state))) again();
  }

  function again() {
    const timer = setTimeout(go, AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  }

  function tell() {
    const parts = [];
    if (box.hidden) {
      if (latest.attempts === 0 || latest.state === "dispatched") parts.push(ENDED.has(latest.state) ? "It never started." : "Nothing yet: it has not started.");
      else if (!failure.hidden) parts.push("");
      else parts.push(latest.state === "running" ? "Nothing was written yet." : "Nothing was written.");
    } else {
      if (begun > 0 || cut) parts.push("Only the end is shown here: earlier output is cut off.");
      if (latest.state === "running") parts.push("Followed while it runs.");
    }
    text(said, parts.join(" "));
  }

  // Connections are few: a tab that nobody sees holds none.
  document.addEventListener("visibilitychange", () => (document.hidden ? reading.abort() : go()), { signal });
  return (job) => {
    const moved = latest?.state !== job.state || latest.attempts !== job.attempts;
    latest = job;
    if (moved) tell();
    if (moved) go();
  };
}
