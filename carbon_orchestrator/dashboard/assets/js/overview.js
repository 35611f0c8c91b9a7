// The overview: is it healthy, what is stuck, when will jobs run, what was emitted and avoided.
import { words } from "./api.js";
import { carbonPanel } from "./carbon_panel.js";
import { cards } from "./cards.js";
import { dataPath, pools } from "./data_path.js";
import { h, replace, text } from "./dom.js";
import { onHealth } from "./health.js";
import { watch } from "./live.js";

const BOUND = "project-bound";
const CHANGES = [
  "job.submitted", "job.deferred", "job.dispatched", "job.started", "job.completed", "job.failed",
  "job.suspended", "job.cancelled", "job.rejected", "emissions.recorded", "emissions.settled", "pool.scaled",
];

export async function open(root, { signal }) {
  const section = (name, label) => h("section", { class: `panel ${name}`, "aria-label": label });
  const figures = h("section", { class: "figures", "aria-label": "At a glance" });
  const carbon = section("carbon", "Carbon intensity");
  const path = section("data-path", "Data path");
  const sites = section("sites", "Pools");
  const recent = section("recent", "Latest jobs");
  replace(root, h("h1", { class: "sr-only" }, "Overview"), figures, carbon, path, sites, recent);

  shown(figures, cards(figures), "The figures cannot be told", (show, fail) =>
    watch("/overview", { types: CHANGES, every: 5000, signal, onData: show, onError: fail }));
  shown(sites, pools(sites), "The pools cannot be told", (show, fail) =>
    watch("/pools", { types: CHANGES, every: 5000, signal, onData: show, onError: fail }));
  shown(path, dataPath(path), "The streams cannot be told", (show, fail) =>
    onHealth((health, error) => {
      if (health?.streams) show(health);
      else if (health) fail(Object.assign(new Error("this API key may not see all there is"), { kind: BOUND }));
      else if (error) fail(new Error(error));
    }, signal));

  const jobs = h("div");
  replace(recent, h("div", { class: "head" }, h("h2", {}, "Latest jobs"), h("a", { href: "#/jobs" }, "All jobs")), jobs);
  const tables = import("./jobs.js").then((module) => module.recentJobs(jobs, { signal }));
  tables.catch(() => replace(jobs, h("p", { class: "failure" }, "The latest jobs cannot be shown.")));
  carbonPanel(carbon, { signal });
}

/** `follow(show, fail)`: while there is an error, `section` says so below what it last showed; where
 * the key is not for it, in its place. */
function shown(section, show, says, follow) {
  const failure = h("p", { class: "failure", hidden: true });
  section.append(failure);
  const concealed = (yes) => {
    section.hidden = yes && section.classList.contains("panel"); // the figures' place says it for all
    for (const child of section.children) if (child !== failure) child.hidden = yes;
  };
  follow(
    (data) => {
      failure.hidden = true;
      concealed(false);
      show(data);
    },
    (error) => {
      failure.hidden = false;
      const bound = error.kind === BOUND; // as it should be: nothing has failed
      concealed(bound);
      failure.className = bound ? "muted" : "failure";
      text(failure, `${bound ? "Not all is shown" : says}: ${error.constructor === Error ? error.message : words(error)}.`);
    },
  );
}
