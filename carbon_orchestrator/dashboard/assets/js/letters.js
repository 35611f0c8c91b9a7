// Dead letters: what nobody could process, by the group; retried or dropped.
import { get, send, words } from "./api.js";
import { confirm, notice } from "./dialog.js";
import { h, keyed, replace, text } from "./dom.js";
import { count, fullTime } from "./format.js";
import { watch } from "./live.js";

const PAGE = 50;
const MOST_ROUNDS = 100; // of a group that one request does not get through

export function open(root, { id, signal }) {
  return id ? one(root, id, signal) : all(root, signal);
}

function all(root, signal) {
  const failure = h("p", { class: "failure", role: "status", hidden: true });
  const empty = h("p", { class: "empty" }, "Asking for the dead letters…");
  const told = h("p", { class: "muted small", role: "status" });
  const groups = h("ul", { class: "groups" });
  const letters = h("ol", { class: "letters" });
  const more = h("button", { type: "button", hidden: true }, "Show more");
  const single = h("section", { class: "panel", "aria-label": "Letters", hidden: true }, h("h2", {}, "Each of them, the oldest first"), letters, h("p", { class: "more" }, more));
  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Dead letters"), told),
    h("section", { class: "panel", "aria-label": "Groups" }, h("p", { class: "muted" }, "Entries of the streams that nobody could process. They stop nothing: once their cause is mended, put them back (retry), or drop them. Both go on record."), failure, empty, groups),
    single,
  );
  let wanted = PAGE;
  more.addEventListener("click", () => {
    wanted = Math.min(1000, wanted + PAGE);
    shown.refresh();
  });
  const refresh = () => shown.refresh();
  const shown = watch(() => `/dead-letters?limit=${wanted}`, {
    types: ["dead_letter"],
    every: 5000,
    signal,
    onData(data) {
      failure.hidden = true;
      empty.hidden = data.total > 0;
      text(empty, "There are none: everything could be processed.");
      text(told, data.total ? `${count(data.total)} in all${data.grouped < data.total ? `, of which the oldest ${count(data.grouped)} are grouped here` : ""}` : "");
      keyed(groups, data.groups, (group) => `${group.stream} ${group.kind}`, (group) => makeGroup(group, refresh), updateGroup);
      single.hidden = !data.letters.length;
      keyed(letters, data.letters, (letter) => letter.id, makeLetter);
      more.hidden = !data.more || wanted >= 1000;
    },
    onError(error) {
      failure.hidden = false;
      empty.hidden = true;
      text(failure, `The dead letters cannot be told: ${words(error)}.`);
    },
  });
}

function makeGroup(group, refresh) {
  const node = h(
    "li",
    { class: "group" },
    h("div", { class: "group-head" }, h("strong", { class: "number" }), h("span", { class: "badge mono" }, group.stream), h("span", { class: "muted small" })),
    h("p", { class: "reason" }),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button" }, "Open the newest"),
      h("button", { type: "button", onclick: () => deal(RETRY, node.group, refresh) }, "Retry all"),
      h("button", { type: "button", class: "danger", onclick: () => deal(DROP, node.group, refresh) }, "Drop all"),
    ),
  );
  return node;
}

function updateGroup(node, group) {
  node.group = group;
  const [head, reason, actions] = node.children;
  text(head.firstChild, count(group.count));
  text(head.lastChild, group.oldest === group.newest ? fullTime(group.newest) : `${fullTime(group.oldest)} to ${fullTime(group.newest)}`);
  text(reason, group.reason);
  actions.firstChild.href = `#/letters/${encodeURIComponent(group.example)}`;
}

function makeLetter(letter) {
  return h(
    "li",
    {},
    h("a", { href: `#/letters/${encodeURIComponent(letter.id)}`, class: "mono" }, letter.id),
    h("span", { class: "badge mono" }, letter.stream),
    h("span", { class: "muted small" }, fullTime(letter.at)),
    h("span", { class: "why", title: letter.reason, dataset: { full: letter.reason } }, letter.reason),
  );
}

const RETRY = { path: "/dead-letters/retry", verb: "Retry", done: "retried", explain: "They are put back on the stream from which they came, at its end." };
const DROP = { path: "/dead-letters/drop", verb: "Drop", done: "dropped", explain: "They are deleted for good. What they asked for will not happen.", danger: true };

/** Retry or drop a group, or one letter: {ids}. Asks first, and tells what came of it. */
async function deal(act, what, then) {
  const number = what.ids ? 1 : what.count;
  const sure = await confirm({
    title: number === 1 ? `${act.verb} this dead letter?` : `${act.verb} ${count(number)} dead letters?`,
    body: [what.reason && h("p", { class: "reason" }, what.reason), h("p", {}, number === 1 ? act.explain.replace("They are", "It is").replace("they came", "it came").replace("they asked", "it asked") : act.explain)],
    action: number === 1 ? act.verb : `${act.verb} all`,
    danger: act.danger,
  });
  if (!sure) return;
  const choice = what.ids ? { ids: what.ids } : { stream: what.stream, kind: what.kind };
  let done = 0;
  const others = new Map(); // what else came of some: how many
  try {
    for (let i = 0; i < MOST_ROUNDS; i++) {
      const told = await send("POST", act.path, choice);
      done += told.done;
      for (const { outcome } of told.outcomes) if (outcome !== act.done) others.set(outcome, (others.get(outcome) ?? 0) + 1);
      if (!told.more || !told.done) break;
    }
    const besides = [...others].map(([outcome, number]) => `${count(number)}: ${outcome}`).join("; ");
    notice(`${count(done)} ${act.done}${besides ? `; ${besides}` : ""}.`, besides ? "bad" : "");
  } catch (error) {
    notice(`${done ? `${count(done)} ${act.done}, but then` : `Not ${act.done}`}: ${words(error)}.`, "bad");
  }
  then(done);
}

/** One letter, with the original's fields. */
async function one(root, id, signal) {
  const back = h("nav", { "aria-label": "Back" }, h("a", { href: "#/letters" }, "← Dead letters"));
  replace(root, back, h("h1", {}, "Dead letter"), h("p", { class: "empty" }, "Asking for it…"));
  let letter;
  try {
    letter = await get(`/dead-letters/${encodeURIComponent(id)}`, { signal });
  } catch (error) {
    if (!signal.aborted) replace(root, back, h("h1", {}, "Dead letter"), h("p", { class: "failure" }, `It cannot be shown: ${words(error)}.`));
    return;
  }
  const left = (done) => done && !signal.aborted && (location.hash = "#/letters");
  const this_one = { ids: [letter.id], reason: letter.reason };
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  replace(
    root,
    back,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Dead letter"),
      h("button", { type: "button", onclick: () => deal(RETRY, this_one, left) }, "Retry"),
      h("button", { type: "button", class: "danger", onclick: () => deal(DROP, this_one, left) }, "Drop"),
    ),
    h(
      "section",
      { class: "panel", "aria-label": "Why" },
      h("p", { class: "headline" }, letter.reason),
      h(
        "dl",
        { class: "facts" },
        fact("Stream", h("span", { class: "mono" }, letter.stream)),
        fact("Entry", h("span", { class: "mono" }, letter.entry)),
        fact("Read by", letter.group),
        fact("Deliveries", count(letter.deliveries)),
        fact("Put aside", fullTime(letter.at)),
        fact("Id", h("span", { class: "mono" }, letter.id)),
      ),
    ),
    h("section", { class: "panel", "aria-label": "Fields" }, h("h2", {}, "The entry as it came"), letter.fields.length ? letter.fields.map(([name, value]) => [h("h3", { class: "mono" }, name), h("pre", { class: "block", tabindex: "0", "aria-label": name }, pretty(value))]) : h("p", { class: "empty" }, "It has no fields.")),
  );
}

function pretty(value) {
  try {
    const parsed = JSON.parse(value);
    return typeof parsed === "object" ? JSON.stringify(parsed, null, 2) : value;
  } catch {
    return value;
  }
}
