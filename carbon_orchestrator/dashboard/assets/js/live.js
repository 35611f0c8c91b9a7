// What happens, as it happens: the event stream over fetch() (an EventSource could not send the
// key), and answers kept fresh by it.
import { Problem, get, onKey, request } from "./api.js";

const RETRY_MS = [500, 1000, 2000, 5000, 10_000];
const SILENCE_MS = 45_000; // the gateway says something every 15 s
const THROTTLE_MS = 1000;
const FAILED_MS = 2000;
const SETTLED_MS = 1300; // the gateway keeps some answers for a second

/** Splits a text/event-stream. `push(text)` gives the events that it completed, as {id, type, data}. */
export class Frames {
  #rest = "";
  #event = { id: null, type: "message", data: [] };

  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#event.data.length || this.#event.type !== "message") {
          events.push({ ...this.#event, data: this.#event.data.join("\n") });
        }
        this.#event = { id: null, type: "message", data: [] };
        continue;
      }
      const at = line.indexOf(":");
      const name = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
      if (name === "event") this.#event.type = value;
      else if (name === "data") this.#event.data.push(value);
      else if (name === "id") this.#event.id = value;
    }
    return events;
  }
}

const listeners = new Set(); // {types: Set|null, handler}
const watchers = new Set(); // onState
let state = "off"; // off, live, away
let connection = null;

/** The feed's state: "live", "away" (not reachable, asked for now and then) or "off". */
export function onFeed(handler) {
  watchers.add(handler);
  handler(state);
}

function tell(now) {
  if (state === now) return;
  state = now;
  for (const each of watchers) each(now);
}

/**
 * Call `handler({type, id, data})` for every event of these types (null: all) until the signal;
 * data is the frame's, parsed. After a pause (hidden tab, gap) it gets {type: "gap"}: what it
 * knows may be old.
 */
export function listen(types, handler, signal) {
  const each = { types: types && new Set(types), handler };
  listeners.add(each);
  signal?.addEventListener("abort", () => {
    listeners.delete(each);
    if (!listeners.size) disconnect();
  });
  connect();
}

function connect() {
  if (connection || document.hidden || !listeners.size) return;
  connection = new AbortController();
  run(connection.signal);
}

function disconnect() {
  connection?.abort();
  connection = null;
  tell("off");
}

async function run(signal) {
  let last = null;
  let failures = 0;
  while (!signal.aborted) {
    try {
      await read(signal, last, (id) => ((last = id), (failures = 0)));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && [401, 403, 404, 410, 422].includes(error.status)) {
        if (last === null) return tell("off"); // not for this key: polling does it
        last = null; // a position that is no longer good
        spread({ type: "gap", id: null, raw: "null" });
      }
    }
    if (signal.aborted) return;
    tell("away");
    await sleep(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)], signal);
  }
}

async function read(signal, last, arrived) {
  const silence = new AbortController();
  const response = await request("/events", {
    quiet: true,
    signal: AbortSignal.any([signal, silence.signal]),
    headers: { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) },
  });
  tell("live");
  const frames = new Frames();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      for (const event of frames.push(value)) {
        if (event.id !== null) arrived(event.id);
        spread({ type: event.type, id: event.id, raw: event.data });
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

/** To whom it concerns; parsed once, and only where somebody wants it. */
function spread({ type, id, raw }) {
  let event = null;
  for (const { types, handler } of listeners) {
    if (types && type !== "gap" && !types.has(type)) continue;
    event ??= { type, id, get data() { return (this.parsed ??= JSON.parse(raw)); }, parsed: null };
    handler(event);
  }
}

function sleep(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

onKey(() => {
  disconnect();
  connect();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return disconnect();
  connect();
  for (const { handler } of [...listeners]) handler({ type: "gap", id: null, data: null });
});

/**
 * Keep an answer on the page: ask now, after events of these types (at most once a second; null:
 * all, []: none) and every `every` ms, while the tab is seen, until the signal. `path`: a string, or a
 * function giving one. `onData(data)` is called when it changed (always the first time),
 * `onError(problem)` when it could not be had. `load`: how to ask, where it takes several requests.
 * Gives {refresh}: ask now.
 */
export function watch(path, { types = [], every = 15_000, signal, load = get, onData, onError = () => {} }) {
  let shown;
  let shownPath = null;
  let timer = null;
  let due = Infinity; // when it goes off
  let busy = false;
  let again = 0; // within how long to ask again, ms; 0: no sooner than `every`
  let asked = 0;

  async function ask() {
    if (signal.aborted || document.hidden) return;
    if (busy) {
      again = THROTTLE_MS;
      return;
    }
    busy = true;
    clearTimeout(timer);
    due = Infinity;
    asked = performance.now();
    const where = typeof path === "function" ? path() : path;
    try {
      const data = await load(where, { signal });
      if (!signal.aborted && (data !== shown || where !== shownPath)) {
        shown = data;
        shownPath = where;
        onData(data);
      }
    } catch (error) {
      if (signal.aborted) return;
      shownPath = null;
      again ||= Math.min(every, FAILED_MS);
      onError(error);
    } finally {
      busy = false;
    }
    plan(again || every);
    again = 0;
  }

  /** Ask in so long, unless that is to be done sooner anyhow. */
  function plan(wait) {
    const at = performance.now() + wait;
    if (at >= due) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(() => {
      due = Infinity;
      ask();
    }, wait);
  }

  function soon() {
    again = SETTLED_MS;
    if (!busy) plan(Math.max(0, asked + THROTTLE_MS - performance.now()));
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  if (types === null || types.length) listen(types, soon, signal);
  else document.addEventListener("visibilitychange", () => document.hidden || soon(), { signal });
  ask();
  return { refresh: ask };
}
