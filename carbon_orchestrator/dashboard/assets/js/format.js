// Figures as people read them. Times are UTC, as in reports and on the command line.
import { gridNow } from "./clock.js";
import { h } from "./dom.js";

const NONE = "–";

function scaled(value, units) {
  for (const [unit, size] of units) {
    if (Math.abs(value) >= size) return `${figure(value / size)} ${unit}`;
  }
  const [unit, size] = units.at(-1);
  return `${figure(value / size)} ${unit}`;
}

/** Three significant figures, and no more decimals than that takes. */
export function figure(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  const rounded = Number(value.toFixed(Math.min(digits, 6)));
  return rounded.toLocaleString("en", { maximumFractionDigits: 6 });
}

/** Micrograms of CO2e: "1.24 kg". */
export function grams(ug) {
  if (ug === null || ug === undefined) return NONE;
  return ug === 0 ? "0 g" : scaled(ug, [["t", 1e12], ["kg", 1e9], ["g", 1e6], ["mg", 1e3], ["µg", 1]]);
}

/** Millijoules: "3.5 kWh", "12 J". */
export function energy(mj) {
  if (mj === null || mj === undefined) return NONE;
  return mj === 0 ? "0 Wh" : scaled(mj, [["MWh", 3.6e12], ["kWh", 3.6e9], ["Wh", 3.6e6], ["J", 1e3], ["mJ", 1]]);
}

/** gCO2e/kWh: "143". */
export function intensity(value) {
  return value === null || value === undefined ? NONE : figure(Math.round(value * 10) / 10);
}

export const UNIT = "gCO₂e/kWh";

export function count(value) {
  return value === null || value === undefined ? NONE : value.toLocaleString("en");
}

/** A share of 1: "24 %". */
export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return NONE;
  return `${figure(Math.abs(share) >= 0.1 ? Math.round(share * 100) : Math.round(share * 1000) / 10)} %`;
}

/** Milliseconds: "45 s", "2 h 5 min", "3 d 4 h". */
export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  const s = Math.abs(ms) / 1000;
  const sign = ms < 0 ? "−" : "";
  if (s < 1) return `${sign}${Math.round(Math.abs(ms))} ms`;
  if (s < 9.95) return `${sign}${figure(Math.round(s * 10) / 10)} s`;
  if (s < 59.5) return `${sign}${Math.round(s)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 60) return `${sign}${minutes} min`;
  if (minutes < 48 * 60) return sign + pair(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.round(minutes / 60);
  return sign + pair(Math.floor(hours / 24), "d", hours % 24, "h");
}

function pair(large, unit, small, less) {
  return small ? `${large} ${unit} ${small} ${less}` : `${large} ${unit}`;
}

/** RFC 3339 or ms, to ms. */
export function ms(time) {
  return typeof time === "number" ? time : Date.parse(time);
}

const two = (number) => String(number).padStart(2, "0");

/** "2020-06-01". */
export function day(time) {
  return new Date(ms(time)).toISOString().slice(0, 10);
}

/** "14:05", "1 Jun 14:05" on another day than the grid's today, with the year on another year. */
export function time(at) {
  if (at === null || at === undefined) return NONE;
  const date = new Date(ms(at));
  const clock = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
  const today = new Date(gridNow());
  if (day(date.getTime()) === day(today.getTime())) return clock;
  return `${shortDay(at)} ${clock}`;
}

/** "1 Jun", with the year on another year than the grid's. */
export function shortDay(at) {
  const date = new Date(ms(at));
  const month = date.toLocaleString("en", { month: "short", timeZone: "UTC" });
  const year = date.getUTCFullYear() === new Date(gridNow()).getUTCFullYear() ? "" : ` ${date.getUTCFullYear()}`;
  return `${date.getUTCDate()} ${month}${year}`;
}

/** "2020-06-01 14:05:09 UTC". */
export function fullTime(at) {
  return at === null || at === undefined ? NONE : `${new Date(ms(at)).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "in 2 h", "5 min ago", "now", by the grid clock (`now`: another). */
export function relative(at, now = gridNow()) {
  const ahead = ms(at) - now;
  if (Math.abs(ahead) < 1000) return "now";
  return ahead > 0 ? `in ${duration(ahead)}` : `${duration(-ahead)} ago`;
}

/** A <time> that says how far off it is, and stays true: main.js refreshes all of them. */
export function when(at) {
  if (at === null || at === undefined) return document.createTextNode(NONE);
  return h("time", { datetime: new Date(ms(at)).toISOString(), title: fullTime(at), dataset: { relative: "" } }, relative(at));
}

export function refreshTimes(root = document) {
  for (const each of root.querySelectorAll("time[data-relative]")) {
    const now = relative(each.getAttribute("datetime"));
    if (each.textContent !== now) each.textContent = now;
  }
}

/** A pool as a label with its shape and colour: "fast", "eco", or a site such as "eco@FR". */
export function pool(site) {
  if (!site) return document.createTextNode(NONE);
  const [name, zone] = site.split("@");
  return h("span", { class: "pool", dataset: { pool: name } }, name.toUpperCase() + (zone ? ` ${zone}` : ""));
}

const TONES = {
  completed: "good", running: "accent", dispatched: "accent", failed: "bad", expired: "bad",
  rejected: "bad", suspended: "warn", deferred: "warn",
};

/** A job's state as a badge. */
export function state(name) {
  return h("span", { class: "badge", dataset: { tone: TONES[name] ?? "" } }, name);
}
