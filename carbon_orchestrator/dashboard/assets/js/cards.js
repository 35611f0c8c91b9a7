// The figures at the top of the overview.
import { h, replace, text } from "./dom.js";
import { count, duration, energy, figure, grams, percent, relative, shortDay } from "./format.js";

/** Cards that keep their place while their figures change; gives `show(overview)`. */
export function cards(root) {
  const list = h("ul", { class: "cards" });
  const made = Object.fromEntries(
    CARDS.map(([name, title, href]) => {
      const value = h("p", { class: "value number" }, "–");
      const more = h("p", { class: "note" }, "\u00a0");
      const heading = h("h2", {}, href ? h("a", { href }, title) : title);
      const card = h("li", { class: "card", dataset: { card: name } }, heading, value, more);
      list.append(card);
      return [name, { card, value, more }];
    }),
  );
  replace(root, list);
  return (overview) => {
    for (const [name, , , figures] of CARDS) {
      const { card, value, more } = made[name];
      const shown = figures(overview);
      if (typeof shown.value === "string") text(value, shown.value);
      else replace(value, shown.value);
      if (typeof shown.more === "string") text(more, shown.more);
      else replace(more, shown.more);
      card.dataset.tone = shown.tone ?? "";
    }
  };
}

const simulated = (emissions) => (emissions.simulated ? ", simulated" : "");

function avoided({ emissions }) {
  const { avoided_ug: ug, baseline_ug: all } = emissions;
  const share = all ? ug / all : 0;
  const even = Math.abs(share) < 0.0005; // what would be told as 0 %
  const told = !all ? "against" : even ? "as much as" : `${percent(Math.abs(share))} ${ug < 0 ? "more" : "less"} than`;
  return { value: grams(ug), more: `${told} ${emissions.baseline}`, tone: even ? "" : ug < 0 ? "warn" : "good" };
}

function oldest({ oldest_wait: wait }) {
  if (!wait) return { value: "–", more: "no job waits" };
  return { value: duration(wait.waits_ms), more: [`${wait.state}: `, h("a", { href: `#/jobs/${encodeURIComponent(wait.id)}` }, "see why")] };
}

function risk({ deadline_risk: risk }) {
  if (!risk) return { value: "–", more: "not told" };
  const [first] = risk.examples ?? [];
  const of = risk.complete ? "all that wait or run were looked at" : `of the ${count(risk.examined)} looked at`;
  const more = first ? [h("a", { href: `#/jobs/${encodeURIComponent(first.id)}` }, first.type), `: ${first.why || `due ${relative(first.deadline)}`}`] : of;
  return { value: count(risk.jobs) + (risk.complete || !risk.jobs ? "" : "+"), more, tone: risk.jobs ? "warn" : "" };
}

function running({ running }) {
  return {
    value: ["fast", "eco"].map((name) => h("span", { class: "pool", dataset: { pool: name } }, `${name.toUpperCase()} ${count(running[name] ?? 0)}`)),
    more: null,
  };
}

// Name, title, where it leads, and its figures from an answer of /overview.
const CARDS = [
  ["emitted", "Emitted", "#/report", ({ emissions }) => ({
    value: grams(emissions.emitted_ug),
    more: `${energy(emissions.energy_mj)}${emissions.since ? ` since ${shortDay(emissions.since)}` : ""}${simulated(emissions)}`,
  })],
  ["avoided", "Avoided", "#/report", avoided],
  ["running", "Running", "#/jobs?state=running", (overview) => ({ ...running(overview), more: `${figure(overview.rates.completed_per_min)} done a minute` })],
  ["waiting", "Waiting", "#/jobs?state=submitted,deferred,dispatched,suspended", (overview) => ({
    value: count(overview.waiting),
    more: `${count(overview.jobs.deferred ?? 0)} deferred · ${figure(overview.rates.submitted_per_min)} submitted a minute`,
  })],
  ["oldest", "Oldest wait", null, oldest],
  ["risk", "Deadlines at risk", null, risk],
  ["letters", "Dead letters", "#/letters", (overview) => ({
    value: count(overview.dead_letters),
    more: overview.dead_letters ? "what nobody could process" : "nothing was set aside",
    tone: overview.dead_letters ? "bad" : "",
  })],
];
