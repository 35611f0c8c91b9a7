// The HTTP API: with the API key where one is needed, ETags, and errors in words.

/** An answer that is an error (RFC 9457), or none at all (`status` 0). `message` says it in words. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the gateway answered ${status}`);
    this.status = status;
    this.kind = (body.type ?? "").split(":").at(-1); // "unknown-type", ...
    this.field = body.field ?? null;
    this.body = body;
  }
}

const KEY = "api-key";
const REMEMBERED = 60; // answers with an ETag

let key = null;
try {
  key = sessionStorage.getItem(KEY);
} catch {
  // Without storage the key lasts until the page is left.
}
let askForKey = async () => null;
let asking = null;
let declined = false; // nobody is asked twice
let remembered = new Map(); // path: {etag, data}

export const hasKey = () => key !== null;

/** `ask(why)` opens the dialog: it gives the key, or null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

const keyReaders = new Set();

/** Call `reader()` whenever there is another key. */
export function onKey(reader) {
  keyReaders.add(reader);
}

export function setKey(value) {
  key = value || null;
  declined = false;
  remembered = new Map();
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
  for (const each of keyReaders) each();
}

/** Ask once, however many requests were refused. True where there is another key now. */
async function anotherKey(refused, why) {
  if (refused !== key) return true; // meanwhile somebody gave one
  if (declined) return false;
  asking ??= askForKey(why).then((given) => {
    asking = null;
    if (given) setKey(given);
    else declined = true;
  });
  await asking;
  return refused !== key;
}

/**
 * fetch() with the key; asks for one on 401. Raises Problem where the answer is an error.
 * `headers`, `method`, `body`, `signal` as in fetch; `quiet`: on 401 raise, ask for nothing.
 */
export async function request(path, { quiet = false, headers = {}, ...options } = {}) {
  for (;;) {
    const used = key;
    let response;
    try {
      response = await fetch(path, {
        ...options,
        cache: "no-store", // ETags are ours
        headers: { Accept: "application/json", ...headers, ...(used === null ? {} : { Authorization: `Bearer ${used}` }) },
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { detail: "the gateway cannot be reached" });
    }
    if (response.ok || response.status === 304) return response;
    const problem = await problemOf(response);
    if (response.status !== 401 || quiet || !(await anotherKey(used, problem.message))) throw problem;
  }
}

async function problemOf(response) {
  const body = await response.text().catch(() => "");
  try {
    return new Problem(response.status, JSON.parse(body));
  } catch {
    return new Problem(response.status, { detail: `the gateway answered ${response.status} ${response.statusText}`.trim() });
  }
}

/** GET as JSON. An answer that has not changed is the very same object as the last time. */
export async function get(path, options = {}) {
  const known = remembered.get(path);
  const response = await request(path, { ...options, headers: known ? { "If-None-Match": known.etag } : {} });
  if (response.status === 304) return known.data;
  const data = await response.json();
  const etag = response.headers.get("ETag");
  remembered.delete(path);
  if (etag) {
    remembered.set(path, { etag, data });
    if (remembered.size > REMEMBERED) remembered.delete(remembered.keys().next().value);
  }
  return data;
}

/** POST, DELETE, ... with a JSON body (or none); the answer as JSON, null where it is empty. */
export async function send(method, path, body, { headers = {}, signal } = {}) {
  const response = await request(path, {
    method,
    signal,
    headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answered = await response.text();
  return answered ? JSON.parse(answered) : null;
}

/** Follow a text that grows: `onText(chunk)` until it ends. Gives the response's headers first. */
export async function follow(path, { signal, onHeaders = () => {}, onText }) {
  const response = await request(path, { signal, headers: { Accept: "text/plain" } });
  onHeaders(response.headers);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onText(value);
  }
}

/** Save an answer as a file (a plain link could not send the key). */
export async function download(path, name, accept) {
  const response = await request(path, { headers: { Accept: accept } });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** An error in words, for a sentence on the page. */
export function words(error) {
  if (error instanceof Problem) return error.message;
  console.error(error);
  return "something went wrong on this page; its console says what";
}
