// A job's ended attempts: what each burnt and emitted, and what the job avoided.
import { h, replace } from "./dom.js";
import { duration, grams, percent, time } from "./format.js";
import { measured } from "./job_words.js";

const NAMES = ["Attempt", "Ended", "Ran", "Energy", "Emitted", "At once on FAST", "Avoided"];

/** Gives `show(job)`. */
export function jobRuns(root) {
  const content = h("div");
  root.append(content);
  let said = null;
  return (job) => {
    const now = JSON.stringify([job.runs, job.emissions_ug, job.baseline_ug, job.unpriced_mj, job.sci_ug, job.state]);
    if (now === said) return;
    said = now;
    replace(content, job.runs.length ? table(job) : h("p", { class: "empty" }, "None has ended yet. Energy and emissions are told when one does."));
  };
}

function table(job) {
  const wide = (values, kind) => values.map((value, i) => h(i === 0 ? "th" : "td", { scope: i === 0 ? kind : null, class: i > 1 ? "number" : null, dataset: { name: NAMES[i] } }, value));
  const rows = job.runs.map((run) =>
    h(
      "tbody",
      {},
      h("tr", {}, wide([`${run.attempt}: ${run.outcome}`, `${time(run.at)} UTC`, duration(run.run_ms), measured(run), grams(run.emissions_ug ?? 0), grams(run.baseline_ug ?? 0), less(run)], "row")),
      notes(run).map((note) => h("tr", { class: "note" }, h("td", { colspan: NAMES.length }, note))),
    ),
  );
  const total =
    job.emissions_ug === undefined || job.runs.length < 2
      ? null
      : h("tfoot", {}, h("tr", {}, wide(["All", "", "", measured(job), grams(job.emissions_ug), grams(job.baseline_ug), less(job)], "row")));
  return [
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "runs-table" },
        h("caption", { class: "sr-only" }, "Attempts that ended"),
        h("thead", {}, h("tr", {}, NAMES.map((name, i) => h("th", { scope: "col", class: i > 1 ? "number" : null }, name)))),
        rows,
        total,
      ),
    ),
    h("p", { class: "muted small" }, `“At once on FAST” is the baseline: the same job run when it was submitted, on FAST, by the intensities that then held. Times that it ran are of the wall clock.${job.embodied_ug ? ` Of the machine’s making it used up ${grams(job.embodied_ug)} CO₂e.` : ""}${job.unpriced_mj ? " Of a part of the energy no intensity was known; that is not in the emissions." : ""}`),
  ];
}

function less({ emissions_ug: emitted = 0, baseline_ug: baseline = 0 }) {
  const ug = baseline - emitted;
  return baseline && ug ? `${grams(ug)} (${percent(ug / baseline)})` : grams(ug);
}

function notes(run) {
  return [
    run.error && h("span", { class: "error" }, run.error),
    run.exit_code && !run.error?.includes(`exit code ${run.exit_code}`) ? `Exit status ${run.exit_code}` : null,
    ...(run.limitations ?? []).map((each) => `Not applied or measured: ${each}`),
  ].filter(Boolean);
}
