// The filters of the list of jobs: from the address to controls, and on to a query.
import { get } from "./api.js";
import { gridNow } from "./clock.js";
import { h, replace, text } from "./dom.js";
import { count } from "./format.js";
import { onHealth } from "./health.js";

const STATES = ["submitted", "deferred", "dispatched", "running", "completed", "failed", "cancelled", "rejected"];
const PERIODS = { "": "Any time", "1h": "Last hour", "24h": "Last 24 h", "7d": "Last 7 days", between: "Between…" };
const LENGTHS = { "1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000 };
const SORTS = { "": "Newest first", submitted_at: "Oldest first", planned_start: "Next planned start" };
const TYPING_MS = 300;

/**
 * Controls made from the address's query. Gives {node, params(), asked()}: what to keep in the
 * address, and the query of GET /jobs. `onChange()` once something was chosen.
 */
export function filters(query, { signal, onChange }) {
  const states = new Set((query.get("state") ?? "").split(",").filter(Boolean));
  const value = (name) => query.get(name) ?? "";
  const chips = Object.fromEntries(
    STATES.map((name) => {
      const box = h("input", { type: "checkbox", checked: states.has(name), onchange: changed });
      const number = h("span", { class: "number muted" });
      return [name, { box, number, node: h("label", { class: "chip" }, box, name, number) }];
    }),
  );
  const types = h("datalist", { id: "types" });
  const field = (id, label, control) => h("div", { class: "field" }, h("label", { for: id }, label), control);
  const typed = (id, more = {}) => {
    let timer;
    const input = h("input", { id, value: value(id), autocomplete: "off", spellcheck: "false", placeholder: "any", ...more });
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(changed, TYPING_MS);
    });
    signal.addEventListener("abort", () => clearTimeout(timer));
    return input;
  };
  const select = (id, options, now) =>
    h("select", { id, onchange: changed }, Object.entries(options).map(([each, label]) => h("option", { value: each, selected: each === now }, label)));
  const type = typed("type", { list: "types" });
  const project = typed("project");
  const pool = select("pool", { "": "Any", fast: "FAST", eco: "ECO" }, value("pool"));
  const urgency = select("urgency", { "": "Any", urgent: "urgent", normal: "normal", flexible: "flexible" }, value("urgency"));
  const custom = query.has("from") || query.has("to");
  const within = select("within", PERIODS, custom ? "between" : value("within"));
  const sort = select("sort", SORTS, value("sort"));
  const moment = (id, label) => field(id, label, h("input", { id, type: "datetime-local", value: value(id), onchange: changed }));
  const between = [moment("from", "From (UTC)"), moment("to", "To (UTC)")];
  const clear = h("button", { type: "button", onclick: reset }, "Clear filters");
  // On a phone the rest is shown when it is asked for.
  const rest = h("button", { type: "button", class: "rest", "aria-expanded": "false", onclick: () => expand(!node.hasAttribute("data-open")) }, "More filters");
  const node = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Jobs", onsubmit: (event) => event.preventDefault() },
    h("fieldset", { class: "chips" }, h("legend", { class: "sr-only" }, "States"), STATES.map((name) => chips[name].node)),
    rest,
    h(
      "div",
      { class: "fields" },
      field("type", "Type", [type, types]),
      field("project", "Project", project),
      field("urgency", "Urgency", urgency),
      field("pool", "Pool", pool),
      field("within", "Submitted", within),
      between,
      field("sort", "Order", sort),
      clear,
    ),
  );
  let since = null; // of "the last hour": when that was chosen, so that a cursor stays good
  arrange();
  expand([...params().keys()].some((name) => name !== "state"));
  get("/types", { signal }).then(
    (known) => replace(types, known.types.map((each) => h("option", { value: each.name }))),
    () => {}, // a type can be typed in, too
  );
  onHealth((health) => {
    for (const name of STATES) text(chips[name].number, health?.jobs ? count(health.jobs[name] ?? 0) : "");
  }, signal);

  function expand(open) {
    node.toggleAttribute("data-open", open);
    rest.setAttribute("aria-expanded", String(open));
  }

  function arrange() {
    for (const each of between) each.hidden = within.value !== "between";
    const planned = sort.value === "planned_start"; // only what is deferred has one
    for (const name of STATES) {
      const { box } = chips[name];
      box.disabled = planned && name !== "deferred";
      if (planned) box.checked = name === "deferred";
    }
    clear.hidden = params().size === 0;
  }

  function changed() {
    since = null;
    arrange();
    onChange();
  }

  function reset() {
    for (const name of STATES) chips[name].box.checked = false;
    for (const each of node.querySelectorAll("input:not([type=checkbox]), select")) each.value = "";
    changed();
    type.focus(); // the button is gone
  }

  function chosen() {
    return {
      state: STATES.filter((name) => chips[name].box.checked).join(","),
      type: list(type.value),
      project: list(project.value),
      urgency: urgency.value,
      pool: pool.value,
      sort: sort.value,
    };
  }

  function params() {
    const between = within.value === "between";
    return given({
      ...chosen(),
      within: between ? "" : within.value,
      from: between ? node.querySelector("#from").value : "",
      to: between ? node.querySelector("#to").value : "",
    });
  }

  function asked() {
    const now = params();
    const length = LENGTHS[now.get("within")];
    since ??= length ? new Date(gridNow() - length).toISOString() : utc(now.get("from"));
    return given({ ...chosen(), submitted_from: since, submitted_to: utc(now.get("to")) });
  }

  return { node, params, asked };
}

const list = (typed) => typed.split(/[\s,]+/).filter(Boolean).join(",");

/** The value of a datetime-local input, as the UTC time that it means here. */
const utc = (local) => (local ? `${local}${local.length === 16 ? ":00" : ""}Z` : "");

function given(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value));
}
