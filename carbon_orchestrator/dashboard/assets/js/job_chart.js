// A job's timeline, drawn on the carbon curve of its zone.
import { words } from "./api.js";
import { carbonChart } from "./chart.js";
import { gridNow, setClock } from "./clock.js";
import { h, replace, text } from "./dom.js";
import { UNIT, intensity, ms, time } from "./format.js";
import { happened } from "./job_words.js";
import { ENDED } from "./cancel.js";
import { watch } from "./live.js";

const HOUR_MS = 3_600_000;
const LONGEST_MS = 7 * 24 * HOUR_MS; // of the past on one chart
const AHEAD_MS = 48 * HOUR_MS;
const ROUND_MS = 900_000;

/** Gives `show(job)`. */
export function jobChart(root, signal) {
  const canvas = h("div", { "aria-hidden": "true" });
  const told = h("p", { class: "muted small" });
  const failure = h("p", { class: "failure", hidden: true });
  replace(root, failure, h("figure", {}, canvas, h("figcaption", {}, told)));
  const errors = new Map();
  const known = { carbon: null, history: null };
  let job = null;
  let show = () => {};
  let zone = "";
  const asked = [];

  function draw() {
    failure.hidden = errors.size === 0;
    text(failure, [...errors.values()].join(" "));
    if (!job || !known.carbon) return;
    const model = chartModel(job, known, gridNow());
    text(told, inWords(model, known.carbon));
    show(model);
  }

  const have = (name, says) => ({
    onData(data) {
      errors.delete(name);
      known[name] = data;
      if (name === "carbon") setClock(data.clock);
      draw();
      if (name === "carbon" && asked.length === 1) asked.push(history()); // now that the time is known
    },
    onError(error) {
      errors.set(name, `${says}: ${words(error)}.`);
      draw();
    },
  });
  const query = (more) => new URLSearchParams({ ...(zone && { zone }), ...more });
  const carbon = () => watch(() => `/carbon?${query()}`, { types: ["intensity.observed"], signal, ...have("carbon", "The grid’s forecast cannot be told") });
  const history = () => watch(() => `/carbon/history?${query(span())}`, { types: ["intensity.observed"], every: 60_000, signal, ...have("history", "The grid’s past cannot be told") });

  function span() {
    const { from, to } = past(job, gridNow());
    return { from: new Date(from).toISOString(), to: new Date(to).toISOString() };
  }

  carbonChart(canvas, signal).then((made) => {
    show = made;
    draw();
  });
  const moving = setInterval(draw, 5000); // the line of now
  signal.addEventListener("abort", () => clearInterval(moving));
  return (now) => {
    job = now;
    const where = job.zone ?? job.planned_zone ?? "";
    if (!asked.length) {
      zone = where;
      asked.push(carbon());
    } else if (where && where !== zone) {
      zone = where;
      for (const each of asked) each.refresh();
    }
    draw();
  };
}

/** What of the past to ask for, ms: rounded outwards, so that answers can be known again. Pure. */
export function past(job, now) {
  const end = endOf(job, now);
  const from = Math.max(ms(job.submitted_at) - HOUR_MS / 4, end - LONGEST_MS);
  return { from: Math.floor((from - ROUND_MS) / ROUND_MS) * ROUND_MS, to: Math.ceil((end + ROUND_MS) / ROUND_MS) * ROUND_MS };
}

/** Until when there is something to see of the past: now, or shortly after it ended. */
function endOf(job, now) {
  if (!ENDED.has(job.state)) return now;
  const last = ms(job.timeline.at(-1)?.at ?? job.submitted_at);
  return Math.min(now, last + Math.max(HOUR_MS / 2, (last - ms(job.submitted_at)) / 4));
}

/** What the chart shows. Pure. */
export function chartModel(job, { carbon, history }, now) {
  const over = ENDED.has(job.state);
  const points = history?.points ?? [];
  const latest = carbon.since && !over ? [{ time: carbon.since, intensity: carbon.intensity }] : [];
  const newer = latest.filter((each) => !points.length || ms(each.time) > ms(points.at(-1).time));
  const lines = [];
  const marks = [];
  let site = null;
  const { from } = past(job, now);
  const together = (endOf(job, now) - from) / 100;
  for (const step of job.timeline) {
    if (step.event === "dispatched") site = step.pool;
    const line = { at: ms(step.at), label: happened(step).split(":")[0].toLowerCase(), tone: TONES[step.event] ?? "muted" };
    if (step.event === "started") marks.push({ at: line.at, pool: site, jobs: 1, planned: false, label: "started" });
    const twin = lines.findLast((each) => line.at - each.at < together); // at once: one line says both
    if (twin) twin.label += `, ${line.label}`;
    else lines.push(line);
  }
  const ahead = !over && job.planned_start ? ms(job.planned_start) : null;
  if (ahead !== null) {
    marks.push({ at: ahead, pool: job.planned_pool ?? null, jobs: 1, planned: true, label: "planned start" });
    lines.push({ at: ahead, label: "planned start", tone: "accent" });
  }
  if (!over && job.latest_start) lines.push({ at: ms(job.latest_start), label: "latest start", tone: "warn" });
  if (!over && job.progress?.finish_at) lines.push({ at: ms(job.progress.finish_at), label: "should be done", tone: "accent" });
  const furthest = Math.max(endOf(job, now), ...lines.map((each) => each.at));
  const deadline = job.deadline ? ms(job.deadline) : null;
  const near = deadline !== null && deadline - furthest <= Math.max(2 * HOUR_MS, furthest - from) && deadline >= from;
  if (near) lines.push({ at: deadline, label: "deadline", tone: "bad" });
  const last = Math.max(furthest, near ? deadline : 0);
  const to = Math.min(last + Math.max(0.06 * (last - from), HOUR_MS / 2), now + AHEAD_MS);
  const seen = points.filter((each) => ms(each.time) < to);
  // What held last, to the edge.
  const edge = to < now && seen.length ? [{ ...seen.at(-1), time: new Date(to).toISOString() }] : [];
  return {
    history: [...seen, ...newer, ...edge],
    forecast: over ? [] : (carbon.forecast ?? []).filter((each) => ms(each.time) <= to),
    now,
    low: carbon.low ?? null,
    high: carbon.high ?? null,
    marks: marks.filter((each) => each.at >= from && each.at <= to),
    lines: lines.filter((each) => each.at >= from && each.at <= to),
    from,
    to,
    beyond: deadline !== null && !near ? deadline : null,
  };
}

const TONES = { completed: "accent", failed: "bad", timeout: "bad", lost: "bad", suspended: "warn", deferred: "warn", rejected: "bad" };

function inWords(model, carbon) {
  const what = model.lines.map((each) => `${each.label} ${time(each.at)}`).join(", ");
  const beyond = model.beyond === null ? "" : ` The deadline, ${time(model.beyond)} UTC, lies beyond the chart.`;
  const now = carbon.intensity === undefined ? "" : ` Now ${intensity(carbon.intensity)} ${UNIT}${carbon.simulated ? ", simulated" : ""}.`;
  return `Intensity in ${carbon.zone}: ${what} (UTC).${beyond}${now}`;
}
