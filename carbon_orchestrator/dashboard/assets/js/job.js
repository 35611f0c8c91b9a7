// A job's page: its state and why, its timeline on the carbon curve, its runs, its output.
import { words } from "./api.js";
import { cancelJob, ENDED } from "./cancel.js";
import { h, replace, text } from "./dom.js";
import { percent, pool, state, when } from "./format.js";
import { jobChart } from "./job_chart.js";
import { jobEvents } from "./job_events.js";
import { jobOutput } from "./job_output.js";
import { jobRuns } from "./job_runs.js";
import { jobSteps } from "./job_steps.js";
import { headline, plainReason } from "./job_words.js";
import { CHANGES } from "./jobs_table.js";
import { watch } from "./live.js";

export async function open(root, { id, signal }) {
  const path = `/jobs/${encodeURIComponent(id)}`;
  const section = (name, label, ...content) => h("section", { class: `panel ${name}`, "aria-label": label }, h("h2", {}, label), content);
  const title = h("h1", {}, "Job");
  const cancel = h("button", { type: "button", class: "danger", hidden: true, onclick: () => cancelJob(job) }, "Cancel the job");
  const again = h("button", { type: "button", hidden: true, onclick: async () => (await import("./submit.js")).openSubmit(job) }, "Submit one like it");
  const failure = h("p", { class: "failure", role: "status", hidden: true });
  const now = h("section", { class: "panel now", "aria-label": "State" });
  const head = h("div", { class: "head" }, title, again, cancel);
  replace(root, h("nav", { "aria-label": "Back" }, h("a", { href: "#/jobs" }, "← Jobs")), head, failure, now);
  let job = null;
  let parts = null;

  const summary = nowPanel(now);

  /** The sections, once there is something to put into them. */
  function build() {
    const chart = h("div");
    const steps = h("div");
    const runs = section("runs", "Runs and their emissions");
    const output = section("output", "Output");
    const given = section("given", "As submitted");
    const events = section("events", "Events");
    root.append(h("section", { class: "panel timeline", "aria-label": "Timeline" }, h("h2", {}, "Timeline"), chart, steps), runs, output, given, events);
    const shows = [jobChart(chart, signal), jobSteps(steps), jobRuns(runs), jobOutput(output, path, signal), jobEvents(events, path, signal), submitted(given)];
    return (known) => shows.forEach((show) => show(known));
  }

  watch(path, {
    types: CHANGES,
    every: 2000, // progress makes no events
    signal,
    onData(known) {
      failure.hidden = true;
      job = known;
      text(title, job.type);
      document.title = `${job.type}, ${job.state} · Carbon orchestrator`;
      again.hidden = false;
      if (ENDED.has(job.state) && cancel === document.activeElement) again.focus();
      cancel.hidden = ENDED.has(job.state);
      now.hidden = false;
      summary(job);
      parts ??= build();
      parts(job);
    },
    onError(error) {
      failure.hidden = false;
      now.hidden = job === null;
      text(failure, `The job cannot be shown: ${words(error)}.`);
    },
  });
}

/** State and reason in words, progress, and what the job is. */
function nowPanel(root) {
  const badge = h("span");
  const sentence = h("p", { class: "headline", role: "status" });
  const reason = h("p", { class: "reason" });
  const bar = h("progress", { max: 1, "aria-label": "progress" });
  const told = h("p", { class: "muted small" });
  const progress = h("div", { class: "progress", hidden: true }, bar, told);
  const facts = h("dl", { class: "facts" });
  replace(root, h("div", { class: "said" }, badge, sentence), reason, progress, facts);
  return (job) => {
    if (badge.dataset.state !== job.state) replace(badge, state(job.state));
    badge.dataset.state = job.state;
    replace(sentence, headline(job));
    text(reason, plainReason(job.reason));
    reason.hidden = !job.reason;
    showProgress(job, progress, bar, told);
    replace(facts, factsOf(job));
  };
}

function showProgress(job, node, bar, told) {
  const { progress } = job;
  node.hidden = job.state !== "running" || !progress;
  if (node.hidden) return;
  const known = progress.fraction !== null;
  bar.hidden = !known;
  if (known) bar.value = progress.fraction;
  const parts = [known ? percent(progress.fraction) : "It does not say how far it is", progress.message];
  replace(told, parts.filter(Boolean).join(" · "), progress.finish_at && [" · should be done ", when(progress.finish_at)]);
}

function factsOf(job) {
  const facts = [
    ["Id", h("span", { class: "mono" }, job.id)],
    ["Urgency", job.interruptible ? `${job.urgency}, interruptible` : job.urgency],
    ["Project", job.project],
    ["Submitted", when(job.submitted_at)],
    ["Deadline", job.deadline ? when(job.deadline) : "none"],
    job.state === "deferred" && job.latest_start && ["Latest start", when(job.latest_start)],
    job.pool && ["Pool", pool(job.zone ? `${job.pool}@${job.zone}` : job.pool)],
    job.attempts > 1 && ["Attempts", String(job.attempts)],
    job.replans > 0 && ["Planned anew", job.replans === 1 ? "once" : `${job.replans} times`],
  ];
  return facts.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

/** The payload and labels: they never change. */
function submitted(root) {
  let shown = false;
  return (job) => {
    if (shown) return;
    shown = true;
    const labels = Object.entries(job.labels);
    const payload = JSON.stringify(job.payload, null, 2);
    root.append(
      labels.length ? h("ul", { class: "labels", "aria-label": "Labels" }, labels.map(([name, value]) => h("li", { class: "badge" }, `${name}: ${value}`))) : h("p", { class: "muted small" }, "No labels."),
      payload === "{}" ? h("p", { class: "muted small" }, "The payload is empty.") : h("pre", { class: "block", tabindex: "0", "aria-label": "Payload" }, payload),
    );
  };
}
