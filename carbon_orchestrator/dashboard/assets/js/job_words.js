// What a job's state means, and what happened to it, in words. Pure, but for the <time>s.
import { duration, energy, figure, grams, intensity, ms, percent, pool, when, UNIT } from "./format.js";

/** One sentence: what state it is in, and what comes next. A list of strings and nodes. */
export function headline(job) {
  const plan = job.planned_start && [when(job.planned_start), job.planned_pool && [" on ", pool(job.planned_zone ? `${job.planned_pool}@${job.planned_zone}` : job.planned_pool)]];
  switch (job.state) {
    case "submitted":
      return ["It waits for the router to decide when and where it runs."];
    case "deferred":
      return ["It waits, and should start ", plan ?? "later", latest(job), "."];
    case "suspended":
      return ["It is suspended, and should go on ", plan ?? "later", "."];
    case "dispatched":
      return ["It was handed to ", pool(job.pool), ", and starts as soon as a worker has room."];
    case "running":
      return ["It runs on ", pool(job.pool), started(job), "."];
    case "completed":
      return ["It was completed ", when(job.finished_at ?? job.timeline.at(-1)?.at), inTime(job), job.emissions_ug === undefined ? "." : `, and emitted ${grams(job.emissions_ug)} CO₂e${avoided(job)}.`];
    case "failed":
      return ["It failed ", when(job.timeline.at(-1)?.at), job.failures > 1 ? ` after ${job.failures} attempts.` : "."];
    case "cancelled":
      return ["It was cancelled ", when(job.timeline.at(-1)?.at), "."];
    case "rejected":
      return ["It was rejected: it will not be run."];
    default:
      return [`It is ${job.state}.`];
  }
}

function latest(job) {
  if (!job.latest_start) return null;
  return job.latest_start === job.planned_start ? ", its latest start" : ["; at the latest ", when(job.latest_start)];
}

function started(job) {
  const at = job.timeline.findLast((step) => step.event === "started")?.at;
  return at ? [", started ", when(at)] : null;
}

function inTime(job) {
  const end = job.finished_at ?? job.timeline.at(-1)?.at;
  if (!job.deadline || !end) return "";
  const left = ms(job.deadline) - ms(end);
  return left >= 0 ? `, ${duration(left)} before its deadline` : `, ${duration(-left)} after its deadline`;
}

/** ", 0.3 g (24 %) less than at once on FAST". */
function avoided({ avoided_ug: ug, baseline_ug: baseline }) {
  if (!ug || !baseline) return "";
  const share = ` (${percent(Math.abs(ug) / baseline)})`;
  return `, ${grams(Math.abs(ug))}${share} ${ug > 0 ? "less" : "more"} than at once on FAST`;
}

const HAPPENED = {
  submitted: "Submitted", deferred: "Deferred", dispatched: "Dispatched", started: "Started", completed: "Completed",
  failed: "Failed", suspended: "Suspended", cancelled: "Cancelled", rejected: "Rejected", timeout: "Timed out",
  lost: "Lost: its workers died", interrupted: "Interrupted: its worker was stopped",
};

/** A reason without the words that its state or step says already. */
export const plainReason = (reason) => (reason ?? "").replace(/^(deferred|dispatched on (FAST|ECO)): /, "");

/** What a step of the timeline is called. */
export function happened(step) {
  return HAPPENED[step.event] ?? step.event;
}

/** The numbers of a step: [["Intensity", "143 gCO₂e/kWh, low"], …]. */
export function numbers(step) {
  return [
    step.intensity !== undefined && ["Intensity", `${intensity(step.intensity)} ${UNIT}${step.band ? `, ${step.band}` : ""}`],
    step.planned_start && ["Planned start", when(step.planned_start)],
    step.pool && ["Pool", pool(step.zone ? `${step.pool}@${step.zone}` : step.pool)],
    !step.pool && step.zone && ["Zone", step.zone],
    step.worker && ["Worker", step.worker],
    step.attempt > 1 && ["Attempt", String(step.attempt)],
  ].filter(Boolean);
}

/** "3.5 kWh ± 30 %, cpu-time-model". */
export function measured({ energy_mj: mj, energy_uncertainty: uncertainty, energy_method: method }) {
  const range = uncertainty ? ` ± ${figure(uncertainty * 100)} %` : "";
  return `${energy(mj)}${mj ? range : ""}${method ? `, ${method}` : ""}`;
}
