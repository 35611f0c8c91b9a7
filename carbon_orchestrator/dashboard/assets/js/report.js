// The emissions report: what was emitted and avoided, by group and period, and as files.
import { download, words } from "./api.js";
import { clockKnown, gridNow } from "./clock.js";
import { notice } from "./dialog.js";
import { h, replace, text } from "./dom.js";
import { count, day, duration, energy, figure, grams, percent, pool } from "./format.js";
import { watch } from "./live.js";
import { totalOf } from "./totals.js";

const GROUPS = { day: "Day", project: "Project", type: "Type", pool: "Pool", zone: "Zone" };
const PERIODS = { "": "All time", 1: "Today", 7: "Last 7 days", 30: "Last 30 days", 365: "Last 365 days", between: "Between…" };
const DAY_MS = 86_400_000;

export async function open(root, { query, signal }) {
  const select = (id, options, now) =>
    h("select", { id, onchange: changed }, Object.entries(options).map(([value, label]) => h("option", { value, selected: value === now }, label)));
  const by = select("by", GROUPS, query.get("by") ?? "day");
  const custom = query.has("from") || query.has("to");
  const period = select("period", PERIODS, custom ? "between" : (query.get("days") ?? ""));
  const date = (id, label) => h("div", { class: "field" }, h("label", { for: id }, label), h("input", { id, type: "date", value: query.get(id) ?? "", onchange: changed }));
  const between = [date("from", "First day"), date("to", "Last day")];
  const save = (format) => h("button", { type: "button", onclick: (event) => keep(event.currentTarget, format) }, `Save as ${format.toUpperCase()}`);
  const failure = h("p", { class: "failure", role: "status", hidden: true });
  const label = h("p", { class: "label", hidden: true }, h("span", { class: "badge", dataset: { tone: "warn" } }, "simulated"), " Some of these figures rest on simulated carbon data.");
  const sums = h("dl", { class: "sums" });
  const table = h("div", { class: "scroll" });
  const empty = h("p", { class: "empty" }, "Asking for the totals…");
  const method = h("div", { class: "method" });
  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Emissions report"), save("csv"), save("json")),
    h(
      "section",
      { class: "panel", "aria-label": "What is reported" },
      h(
        "form",
        { class: "fields", onsubmit: (event) => event.preventDefault() },
        h("div", { class: "field" }, h("label", { for: "by" }, "By"), by),
        h("div", { class: "field" }, h("label", { for: "period" }, "Period"), period),
        between,
      ),
    ),
    h("section", { class: "panel", "aria-label": "Totals" }, failure, label, sums, table, empty),
    h("section", { class: "panel", "aria-label": "How it is reckoned" }, h("h2", {}, "How it is reckoned"), method),
  );
  arrange();

  function arrange() {
    for (const each of between) each.hidden = period.value !== "between";
  }

  /** The days asked for. */
  function span() {
    if (period.value === "between") return { from: root.querySelector("#from").value, to: root.querySelector("#to").value };
    if (!period.value) return {};
    return { from: day(gridNow() - (Number(period.value) - 1) * DAY_MS) };
  }

  function path(more = {}) {
    const asked = { by: by.value, ...span(), ...more };
    return `/emissions?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value))}`;
  }

  function changed() {
    arrange();
    const kept = { by: by.value === "day" ? "" : by.value, ...(period.value === "between" ? span() : { days: period.value }) };
    const params = new URLSearchParams(Object.entries(kept).filter(([, value]) => value));
    history.replaceState(null, "", params.size ? `#/report?${params}` : "#/report");
    shown.refresh();
  }

  async function keep(button, format) {
    button.disabled = true;
    try {
      await download(path({ format }), `emissions-by-${by.value}.${format}`, format === "csv" ? "text/csv" : "application/json");
    } catch (error) {
      notice(`The report was not saved: ${words(error)}.`, "bad");
    } finally {
      button.disabled = false;
    }
  }

  if (query.has("days")) await clockKnown();
  if (signal.aborted) return;
  const shown = watch(path, {
    types: ["emissions.recorded", "emissions.settled", "job.completed"],
    every: 15_000,
    signal,
    onData(data) {
      failure.hidden = true;
      const { rows } = data;
      label.hidden = !data.simulated;
      empty.hidden = rows.length > 0;
      text(empty, "Nothing was counted in this time. Figures come when the first attempt of a job ends.");
      table.hidden = sums.hidden = !rows.length;
      if (rows.length) {
        const total = totalOf(rows);
        replace(sums, summed(total));
        replace(table, barKey(rows), tableOf(data.by[0], rows, total));
      }
      replace(method, explained(data));
    },
    onError(error) {
      failure.hidden = false;
      empty.hidden = true;
      text(failure, `The totals cannot be told: ${words(error)}.`);
    },
  });
}

/** Of what could have been avoided, the part that was; where more was emitted than at once, none was. */
const reached = ({ share_reached: share }, unknown) => (share === null ? unknown : share < 0 ? "none" : percent(share));
const saved = ({ avoided_now_ug: ug, baseline_now_ug: baseline }) => (baseline && ug ? `${grams(ug)} (${percent(ug / baseline)})` : grams(ug));
const spread = ({ uncertainty }) => (uncertainty ? ` ± ${figure(uncertainty * 100)} %` : "");

function summed(total) {
  const made = total.embodied_ug ? ["Of the machines’ making", grams(total.embodied_ug)] : null;
  return [
    ["Emitted", grams(total.emitted_now_ug)],
    ["At once on FAST (baseline)", grams(total.baseline_now_ug)],
    ["Avoided", saved(total)],
    ["Of what was possible", reached(total, "not known yet")],
    ["Energy", energy(total.energy_mj) + spread(total)],
    ["Each job completed", total.sci_ug === null ? "–" : grams(total.sci_ug)],
    made,
    total.unpriced_mj + total.unpriced_restated_mj > 0 ? ["Energy without an intensity", energy(total.unpriced_mj + total.unpriced_restated_mj)] : null,
  ]
    .filter(Boolean)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

const COLUMNS = [
  ["Jobs", (row) => count(row.jobs)],
  ["Energy", (row) => energy(row.energy_mj) + spread(row)],
  ["Emitted", (row) => grams(row.emitted_now_ug)],
  ["Share", (row, total) => (total.emitted_now_ug ? percent(row.emitted_now_ug / total.emitted_now_ug) : "–")],
  ["Baseline", (row) => grams(row.baseline_now_ug)],
  ["Avoided", saved],
  ["Of possible", (row) => reached(row, "–")],
  ["Mean wait", (row) => duration(row.mean_wait_ms)],
  ["Deadlines met", (row) => (row.deadlines_met + row.deadlines_missed ? `${count(row.deadlines_met)} of ${count(row.deadlines_met + row.deadlines_missed)}` : "–")],
];

function tableOf(group, rows, total) {
  const most = Math.max(...rows.map((row) => Math.max(row.baseline_now_ug, row.emitted_now_ug)), 1);
  const cells = (row) => COLUMNS.map(([name, make]) => h("td", { class: "number", dataset: { name } }, make(row, total)));
  return h(
    "table",
    { class: "report-table" },
    h("caption", { class: "sr-only" }, `Emissions by ${group}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, GROUPS[group]), h("th", { scope: "col" }, h("span", { class: "sr-only" }, "As bars")), COLUMNS.map(([name]) => h("th", { scope: "col", class: "number" }, name)))),
    h(
      "tbody",
      {},
      rows.map((row) => h("tr", {}, h("th", { scope: "row" }, group === "pool" ? pool(row.pool) : row[group]), h("td", { class: "bars" }, bars(row, most)), cells(row))),
    ),
    rows.length > 1 && h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "All"), h("td"), cells(total))),
  );
}

/** What the bars mean. */
function barKey(rows) {
  const key = (name, words) => h("li", { class: `bar-key ${name}` }, words);
  const over = rows.some((row) => row.avoided_now_ug < 0);
  return h("ul", { class: "legend", "aria-hidden": "true" }, key("emitted", "emitted"), key("avoided", "avoided"), over && key("over", "emitted over the baseline"));
}

/** Emitted as a bar, and up to the baseline what was avoided; or what was emitted over it. */
function bars(row, most) {
  const { emitted_now_ug: emitted, avoided_now_ug: avoided } = row;
  const share = (ug) => `${(100 * Math.max(0, ug)) / most}%`;
  const within = avoided >= 0 ? emitted : row.baseline_now_ug;
  return h(
    "div",
    { class: "bar", "aria-hidden": "true" },
    h("span", { class: "emitted", style: { "--share": share(within) } }),
    h("span", { class: avoided >= 0 ? "avoided" : "over", style: { "--share": share(Math.abs(avoided)) } }),
  );
}

function explained({ method, metrics }) {
  const terms = [
    ["Emitted, baseline, avoided", "By the intensities known by now: later revisions of the grid’s figures are in them."],
    ["Of what was possible", metrics.share_reached],
    ["Each job completed", metrics.sci_ug],
    ["Energy", metrics.uncertainty],
  ].filter(([, means]) => means);
  return [h("p", {}, method), h("details", {}, h("summary", {}, "What the columns mean"), h("dl", { class: "terms" }, terms.map(([name, means]) => [h("dt", {}, name), h("dd", {}, means)])))];
}
