// The overview's carbon chart: the grid's past and forecast, and when jobs started or will.
import { words } from "./api.js";
import { carbonChart } from "./chart.js";
import { gridNow, setClock } from "./clock.js";
import { h, replace, text } from "./dom.js";
import { UNIT, count, intensity, ms, time } from "./format.js";
import { watch } from "./live.js";

const PAST_MS = 24 * 3_600_000;
const AHEAD_MS = 36 * 3_600_000;

export function carbonPanel(root, { signal }) {
  const sentence = h("p", { class: "summary" }, "Asking for the grid’s intensity…");
  const canvas = h("div", { "aria-hidden": "true" });
  const zones = h("select", { id: "zone", onchange: () => refresh() });
  const choice = h("div", { class: "zone", hidden: true }, h("label", { for: "zone" }, "Zone "), zones);
  const table = h("div", { class: "scroll" });
  const details = h("details", {}, h("summary", {}, "The figures as a table"), table);
  const failure = h("p", { class: "failure", role: "status", hidden: true });
  replace(
    root,
    h("div", { class: "head" }, h("h2", {}, "Carbon intensity"), choice),
    sentence,
    failure,
    h("figure", {}, canvas, legend()),
    details,
  );
  let show = () => {};
  const known = { carbon: null, history: null, starts: null };
  const errors = new Map();
  const path = (name, more = {}) => {
    const query = new URLSearchParams({ ...(zones.value && { zone: zones.value }), ...more });
    return query.size ? `${name}?${query}` : name;
  };

  function draw() {
    failure.hidden = errors.size === 0;
    text(failure, [...errors.values()].join(" "));
    const { carbon } = known;
    if (carbon === null) return;
    const model = chartModel(known, gridNow());
    text(sentence, inWords(carbon, known.starts, model.now));
    show(model);
    if (details.open) fillTable();
  }

  function fillTable() {
    replace(table, known.carbon ? figures(chartModel(known, gridNow())) : "");
  }

  function have(name) {
    return {
      onData(data) {
        errors.delete(name);
        known[name] = data;
        if (name === "carbon") {
          setClock(data.clock);
          offer(data.zones);
        }
        draw();
      },
      onError(error) {
        errors.set(name, `${SAYS[name]}: ${words(error)}.`);
        draw();
      },
    };
  }

  function offer(names) {
    choice.hidden = names.length < 2;
    if (zones.options.length === names.length) return;
    replace(zones, names.map((name) => h("option", { value: name }, name)));
  }

  const asked = [
    watch(() => path("/carbon"), { types: ["intensity.observed"], every: 15_000, signal, ...have("carbon") }),
    watch(() => path("/carbon/history"), { types: ["intensity.observed"], every: 60_000, signal, ...have("history") }),
    watch(() => path("/carbon/starts"), { types: ["job.started", "job.deferred", "job.cancelled"], every: 15_000, signal, ...have("starts") }),
  ];

  function refresh() {
    Object.assign(known, { history: null, starts: null });
    for (const each of asked) each.refresh();
  }

  // Its library comes while the answers do.
  carbonChart(canvas, signal).then((made) => {
    show = made;
    draw();
  });
  details.addEventListener("toggle", () => details.open && fillTable());
  const moving = setInterval(draw, 5000); // the line of now
  signal.addEventListener("abort", () => clearInterval(moving));
}

const SAYS = {
  carbon: "The intensity cannot be told",
  history: "Its past cannot be told",
  starts: "When jobs start cannot be told",
};

/** What the chart shows, from the answers of /carbon, /carbon/history and /carbon/starts. Pure. */
export function chartModel({ carbon, history, starts }, now) {
  const until = now + AHEAD_MS;
  const latest = carbon.since ? [{ time: carbon.since, intensity: carbon.intensity }] : [];
  const past = history?.points ?? [];
  const newer = latest.filter((each) => !past.length || ms(each.time) > ms(past.at(-1).time));
  const forecast = (carbon.forecast ?? []).filter((each) => ms(each.time) <= until);
  const mark = (planned) => (each) => ({
    at: ms(each.time),
    pool: each.pool?.split("@")[0] ?? null,
    jobs: each.jobs,
    planned,
    label: `${count(each.jobs)} ${each.jobs === 1 ? "job" : "jobs"} ${planned ? "planned" : "started"}${each.pool ? ` on ${each.pool.toUpperCase()}` : ""}`,
  });
  const marks = [...(starts?.starts ?? []).map(mark(false)), ...(starts?.planned ?? []).map(mark(true))];
  const last = forecast.length ? ms(forecast.at(-1).time) : now;
  const ahead = Math.min(until, Math.max(last, now + 3_600_000, ...marks.map((each) => each.at)));
  return {
    history: [...past, ...newer],
    forecast,
    now,
    low: carbon.low ?? null,
    high: carbon.high ?? null,
    marks: marks.filter((each) => each.at >= now - PAST_MS && each.at <= ahead),
    lines: [],
    from: now - PAST_MS,
    to: ahead,
  };
}

/** A band is left only when its limit is passed by a margin. */
function still({ intensity: value, band, low, high }) {
  const within = { low: value <= low, medium: value > low && value < high, high: value >= high };
  return within[band] ? "" : "still ";
}

function inWords(carbon, starts, now) {
  if (carbon.intensity === undefined) return `There is no value for ${carbon.zone} yet: ${carbon.unusable ?? "the signal has said nothing"}.`;
  const parts = [
    `Now ${intensity(carbon.intensity)} ${UNIT} in ${carbon.zone}${carbon.band ? `, which is ${still(carbon)}${carbon.band}` : ""} (${carbon.kind}${carbon.estimated ? ", estimated" : ""}, from ${carbon.source}${carbon.simulated ? ", simulated" : ""}).`,
  ];
  const ahead = (carbon.forecast ?? []).filter((each) => ms(each.time) > now && ms(each.time) <= now + PAST_MS);
  if (ahead.length) {
    const best = ahead.reduce((a, b) => (b.intensity < a.intensity ? b : a));
    parts.push(`In the next 24 h it is lowest at ${time(best.time)} UTC with ${intensity(best.intensity)}.`);
  }
  const planned = (starts?.planned ?? []).reduce((sum, each) => sum + each.jobs, 0);
  if (planned) parts.push(`${count(planned)} ${planned === 1 ? "start is" : "starts are"} planned ahead${starts.complete === false ? ", and more than could be counted" : ""}.`);
  return parts.join(" ");
}

function figures(model) {
  const rows = [
    ...model.history.filter((each) => ms(each.time) >= model.from).map((each) => ({ ...each, ahead: false })),
    ...model.forecast.filter((each) => ms(each.time) > model.now).map((each) => ({ ...each, ahead: true })),
  ];
  return h(
    "table",
    {},
    h("caption", { class: "sr-only" }, "Carbon intensity, past and forecast"),
    h("thead", {}, h("tr", {}, ["Time (UTC)", UNIT, "8 of 10 cases", "Jobs"].map((name, i) => h("th", { scope: "col", class: i === 1 ? "number" : null }, name)))),
    h(
      "tbody",
      {},
      rows.map((each, i) => {
        const until = i + 1 < rows.length ? ms(rows[i + 1].time) : Infinity;
        const marks = model.marks.filter((mark) => mark.at >= ms(each.time) && mark.at < until);
        const range = each.low === undefined || each.low === null ? "" : `${intensity(each.low)} – ${intensity(each.high)}`;
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, time(each.time)),
          h("td", { class: "number" }, intensity(each.intensity)),
          h("td", {}, each.ahead ? range || "forecast" : ""),
          h("td", {}, marks.map((mark) => mark.label).join(", ")),
        );
      }),
    ),
  );
}

function legend() {
  const entry = (name, words) => h("li", { class: `key key-${name}` }, words);
  return h(
    "ul",
    { class: "legend", "aria-hidden": "true" },
    entry("past", "past"),
    entry("ahead", "forecast"),
    entry("band", "8 of 10 cases"),
    h("li", { class: "pool", dataset: { pool: "fast" } }, "start on FAST"),
    h("li", { class: "pool", dataset: { pool: "eco" } }, "start on ECO"),
    entry("planned", "planned start"),
  );
}
