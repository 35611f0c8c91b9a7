// Jobs as a table, on a phone as cards: rows keep their place, focus and selection while they change.
import { cancelJob, ENDED } from "./cancel.js";
import { h, keyed, replace, text } from "./dom.js";
import { energy, grams, percent, pool, state, time, when } from "./format.js";
import { plainReason } from "./job_words.js";

/** What changes a list of jobs. */
export const CHANGES = [
  "job.submitted", "job.deferred", "job.dispatched", "job.started", "job.completed", "job.failed",
  "job.suspended", "job.cancelled", "job.rejected", "emissions.recorded",
];

const COLUMNS = [
  ["State", "state", stateCell],
  ["Job", "job", jobCell],
  ["Project, urgency", "whose", (job) => [job.project, h("span", { class: "sub" }, job.urgency)]],
  ["Submitted", "submitted", (job) => when(job.submitted_at)],
  ["Deadline", "deadline", (job) => (job.deadline ? when(job.deadline) : "none")],
  ["Start", "start", startCell],
  ["Why, or what came of it", "why", null],
  ["Actions", "act", null],
];
const BRIEF = ["state", "job", "whose", "submitted", "start", "why"];

/** Gives `show(jobs)`. `brief`: the columns of a summary only. */
export function jobsTable(root, { brief = false } = {}) {
  const columns = COLUMNS.filter(([, name]) => !brief || BRIEF.includes(name));
  const body = h("tbody");
  const table = h(
    "table",
    { class: "jobs", hidden: true },
    h("caption", { class: "sr-only" }, "Jobs"),
    h("thead", {}, h("tr", {}, columns.map(([title, name]) => h("th", { scope: "col", class: `col-${name}` }, name === "act" ? h("span", { class: "sr-only" }, title) : title)))),
    body,
  );
  replace(root, table);
  return (jobs) => {
    table.hidden = !jobs.length;
    keyed(body, jobs, (job) => job.id, (job) => row(job, columns), (node, job) => update(node, job, columns));
  };
}

function row(job, columns) {
  return h(
    "tr",
    {},
    columns.map(([title, name]) =>
      name === "job"
        ? h("th", { scope: "row", class: "col-job" }, jobCell(job))
        : h("td", { class: `col-${name}`, dataset: { name: title } }, name === "why" && h("span", { class: "why" }), name === "act" && cancelButton(job)),
    ),
  );
}

const cancelButton = (job) =>
  h("button", { type: "button", class: "plain danger", "aria-label": `Cancel ${job.type} ${job.id}`, onclick: () => cancelJob(job) }, "Cancel");

function update(node, job, columns) {
  if (node.job === job) return;
  const before = node.job;
  node.job = job;
  columns.forEach(([, name, make], i) => {
    const cell = node.children[i];
    if (name === "why") why(cell.firstChild, job);
    else if (name === "act") offer(cell.firstChild, job, node);
    else if (name === "job") return; // what it is never changes, and it may have the focus
    else if (!before || JSON.stringify(seen(before, name)) !== JSON.stringify(seen(job, name))) replace(cell, make(job));
  });
}

/** What can be done, while it can; where that had the focus, the row keeps it. */
function offer(button, job, row) {
  const ended = ENDED.has(job.state);
  if (ended && button === document.activeElement) row.querySelector("a").focus();
  button.hidden = ended;
}

/** What a cell is made from. */
function seen(job, name) {
  if (name === "state") return [job.state, job.progress];
  if (name === "start") return [job.state, job.pool, job.planned_start, job.planned_pool, job.planned_zone, job.started_at, job.finished_at];
  if (name === "whose") return [job.project, job.urgency];
  return job[{ submitted: "submitted_at" }[name] ?? name];
}

function stateCell(job) {
  const done = job.state === "running" ? job.progress?.fraction : null;
  if (done === null || done === undefined) return state(job.state);
  return [state(job.state), h("progress", { max: 1, value: done, "aria-label": "progress", title: percent(done) })];
}

function jobCell(job) {
  return [h("a", { href: `#/jobs/${encodeURIComponent(job.id)}` }, job.type), h("span", { class: "sub mono", title: job.id }, job.id)];
}

/** When and where: planned while it waits, else as it was. */
function startCell(job) {
  if (job.state === "deferred" && job.planned_start) return [when(job.planned_start), place("planned", job.planned_pool && pool(site(job.planned_pool, job.planned_zone)))];
  if (job.started_at) return [when(job.started_at), place(null, job.pool && pool(job.pool))];
  if (job.pool) return pool(job.pool);
  return "–";
}

const place = (...words) => h("span", { class: "place" }, words.filter(Boolean).map((each, i) => [i > 0 && " on ", each]));
const site = (name, zone) => (zone ? `${name}@${zone}` : name);

function why(node, job) {
  const said = because(job);
  text(node, said);
  node.title = said;
  node.dataset.full = said;
}

/** The latest reason, what it is at, or what it took: one line of text. */
export function because(job) {
  if (job.state === "running") {
    const { progress } = job;
    const parts = [progress?.message, progress?.finish_at && `should be done at ${time(progress.finish_at)} UTC`];
    return parts.filter(Boolean).join(" · ");
  }
  if (job.state === "completed" && job.emissions_ug !== undefined) return `${grams(job.emissions_ug)} CO₂e, ${energy(job.energy_mj)}`;
  return plainReason(job.reason);
}
