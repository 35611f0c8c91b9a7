// The topology strip: each stream and its group, in the order of the data path; and the pools.
import { h, keyed, replace, text } from "./dom.js";
import { count, pool } from "./format.js";

/** Streams of /health by the role that reads them, in the order of the data path. Pure. */
export function roles({ streams, no_consumers: missing }) {
  const found = new Map();
  const named = (name) => {
    if (!found.has(name)) found.set(name, { name, site: name.split(" ")[1] ?? "", gone: missing.includes(name), live: 0, streams: [] });
    return found.get(name);
  };
  for (const each of streams) {
    const site = each.stream.replace(/^dispatch\./, "").replace(/\.(urgent|due)$/, "");
    const role = named(each.group === "worker" ? `worker ${site}` : each.group);
    role.live = Math.max(role.live, each.live_consumers);
    role.streams.push(each);
  }
  missing.forEach(named); // of a role that never was, there are no streams
  const order = ({ name, site }) => (name === "router" ? 0 : site ? 1 : 2);
  return [...found.values()].sort((a, b) => order(a) - order(b));
}

/** Gives `show(health)`. */
export function dataPath(root) {
  const list = h("ol", { class: "path" });
  replace(root, h("div", { class: "head" }, h("h2", {}, "Data path"), h("p", { class: "muted small" }, "lag: not read yet · pending: being worked on")), list);
  return (health) => keyed(list, roles(health), (role) => role.name, makeRole, updateRole);
}

function makeRole(role) {
  const body = h("tbody");
  return h(
    "li",
    { class: "role" },
    h("div", { class: "role-head" }, h("h3", {}, role.site ? ["worker ", pool(role.site)] : role.name), h("span", { class: "badge consumers" })),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "stream"), h("th", { scope: "col", class: "number" }, "lag"), h("th", { scope: "col", class: "number" }, "pending"))),
      body,
    ),
  );
}

function updateRole(node, role) {
  node.dataset.gone = role.gone;
  node.querySelector("table").hidden = role.streams.length === 0;
  const badge = node.querySelector(".consumers");
  badge.dataset.tone = role.gone ? "bad" : "good";
  const busy = role.streams.some(({ pending }) => pending);
  text(badge, role.gone ? "✕ no consumers" : role.live ? `${count(role.live)} live` : busy ? "busy" : "asleep");
  keyed(
    node.querySelector("tbody"),
    role.streams,
    (each) => each.stream,
    (each) => h("tr", {}, h("th", { scope: "row", class: "mono" }, each.stream), h("td", { class: "number" }), h("td", { class: "number" })),
    (row, each) => {
      const [, lag, pending] = row.children;
      text(lag, each.lag === null ? "?" : count(each.lag));
      text(pending, count(each.pending));
      lag.dataset.some = Boolean(each.lag);
      pending.dataset.some = Boolean(each.pending);
    },
  );
}

/** Gives `show(answer of /pools)`. */
export function pools(root) {
  const body = h("tbody");
  const names = ["Pool", "Running", "Slots", "Workers", "Waiting", "Sized by the scaler"];
  replace(
    root,
    h("div", { class: "head" }, h("h2", {}, "Pools")),
    h("table", { class: "pools" }, h("thead", {}, h("tr", {}, names.map((name, i) => h("th", { scope: "col", class: i > 1 && i < 5 ? "number" : null }, name)))), body),
  );
  return ({ pools: all }) =>
    keyed(
      body,
      all,
      (each) => each.site,
      (each) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, pool(each.site)),
          h("td", { class: "load" }, h("progress", { "aria-label": `running on ${each.site}` }), h("span", { class: "number" })),
          names.slice(2, 5).map((name) => h("td", { class: "number", dataset: { name } })),
          h("td", { class: "sized", dataset: { name: names[5] } }),
        ),
      (row, each) => {
        const [, load, slots, workers, waiting, sized] = row.children;
        load.firstChild.max = Math.max(1, each.slots);
        load.firstChild.value = Math.min(each.running, each.slots);
        text(load.lastChild, count(each.running));
        text(slots, count(each.slots));
        text(workers, count(each.workers));
        text(waiting, count(each.waiting));
        text(sized, each.sized ? `${count(each.sized.workers)}: ${each.sized.reason}` : "no scaler");
        row.dataset.gone = each.workers === 0;
      },
    );
}
