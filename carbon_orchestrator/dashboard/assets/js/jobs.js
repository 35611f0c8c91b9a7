// Jobs: a list with filters that are kept in the address, and a short one for the overview.
import { get, words } from "./api.js";
import { clockKnown } from "./clock.js";
import { h, replace, text } from "./dom.js";
import { filters } from "./job_filters.js";
import { CHANGES, jobsTable } from "./jobs_table.js";
import { watch } from "./live.js";

const PAGE = 50;
const MOST = 500; // that are shown at once, and kept fresh
const PATIENCE = 20; // requests for one list, where pages come short

export async function open(root, { query, signal }) {
  const table = h("div");
  const empty = h("p", { class: "empty" }, "Asking for the jobs…");
  const failure = h("p", { class: "failure", role: "status", hidden: true });
  const more = h("button", { type: "button", hidden: true });
  const newest = h("a", { href: "#/jobs", hidden: true }, "Back to the first ones");
  const told = h("p", { class: "muted small", role: "status" });
  const chosen = filters(query, {
    signal,
    onChange() {
      cursor = null;
      wanted = PAGE;
      keep();
      shown.refresh();
    },
  });
  let cursor = query.get("cursor");
  let wanted = PAGE;
  let next = null;

  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Jobs"), told),
    h("section", { class: "panel job-filters", "aria-label": "Filters" }, chosen.node),
    h("section", { class: "panel", "aria-label": "Jobs" }, failure, table, empty, h("p", { class: "more" }, newest, more)),
  );
  const show = jobsTable(table);

  /** The address tells what is shown, so that it can be sent to somebody. */
  function keep() {
    const params = chosen.params();
    if (cursor) params.set("cursor", cursor);
    history.replaceState(null, "", params.size ? `#/jobs?${params}` : "#/jobs");
  }

  function path() {
    const asked = chosen.asked();
    if (cursor) asked.set("cursor", cursor);
    return `/jobs?${asked}`;
  }

  more.addEventListener("click", () => {
    if (wanted < MOST) {
      wanted += PAGE;
    } else {
      cursor = next;
      wanted = PAGE;
      keep();
      scrollTo(0, 0);
    }
    shown.refresh();
  });
  newest.addEventListener("click", (event) => {
    event.preventDefault();
    cursor = null;
    wanted = PAGE;
    keep();
    shown.refresh();
  });

  if (query.has("within")) await clockKnown();
  if (signal.aborted) return;
  const shown = watch(path, {
    types: CHANGES,
    every: 3000, // progress makes no events
    signal,
    load: (where, options) => list(where, wanted, options),
    onData(found) {
      next = found.next;
      failure.hidden = true;
      show(found.jobs);
      empty.hidden = found.jobs.length > 0;
      text(empty, nothing(found, chosen.params().size > 0));
      more.hidden = next === null;
      text(more, wanted < MOST ? "Show more" : "Show those that follow");
      newest.hidden = !cursor;
      text(told, found.jobs.length ? `${found.jobs.length}${next === null ? "" : " of more"} shown` : "");
    },
    onError(error) {
      if (cursor && error.field === "cursor") {
        cursor = null; // of another list, such as that of an hour ago
        keep();
        shown.refresh();
        return;
      }
      failure.hidden = false;
      empty.hidden = true;
      text(failure, `The jobs cannot be listed: ${words(error)}.`);
    },
  });
}

/** Up to `wanted` jobs: a page may come short though others follow. */
async function list(path, wanted, options) {
  const first = await get(`${path}${path.endsWith("?") ? "" : "&"}limit=${wanted}`, options);
  let { jobs, next } = first;
  for (let i = 0; i < PATIENCE && next !== null && jobs.length < wanted; i++) {
    const [base, query] = path.split("?");
    const params = new URLSearchParams(query);
    params.set("cursor", next);
    params.set("limit", wanted - jobs.length);
    const page = await get(`${base}?${params}`, options);
    jobs = [...jobs, ...page.jobs];
    next = page.next;
  }
  return jobs === first.jobs ? first : { jobs, next };
}

function nothing({ next }, filtered) {
  if (next !== null) return "None among those that were looked at so far.";
  return filtered ? "No job is like that. Take a filter away to see others." : "No job has been submitted yet. “Submit a job” makes the first one.";
}

/** The latest few, for the overview. */
export async function recentJobs(root, { signal }) {
  const table = h("div");
  const said = h("p", { class: "empty" }, "Asking for the jobs…");
  replace(root, table, said);
  const show = jobsTable(table, { brief: true });
  watch("/jobs?limit=8", {
    types: CHANGES,
    every: 5000,
    signal,
    onData({ jobs }) {
      show(jobs);
      said.className = "empty";
      said.hidden = jobs.length > 0;
      text(said, nothing({ next: null }, false));
    },
    onError(error) {
      said.className = "failure";
      said.hidden = false;
      text(said, `The jobs cannot be listed: ${words(error)}.`);
    },
  });
}
