// What the carbon chart is drawn from, as columns of one time axis. Pure.
import { ms } from "./format.js";

/**
 * {x (s), past, ahead, low, high} from points {time, intensity, low?, high?}: each value holds
 * from its time to the next; the last of the past until `now`, where the forecast sets on. A hole
 * in the past stays one. Times that `moments` (ms) name besides get a place on the axis.
 */
export function columns(history, forecast, now, moments = []) {
  const rows = new Map(); // ms: {past, ahead, low, high}
  const row = (at) => rows.get(at) ?? rows.set(at, {}).get(at);
  const past = history.map((each) => ({ at: ms(each.time), value: each.intensity })).filter((each) => each.at <= now);
  const step = median(past.slice(1).map((each, i) => each.at - past[i].at));
  past.forEach(({ at, value }, i) => {
    row(at).past = value;
    const next = past[i + 1]?.at ?? now;
    if (step && next - at > 3 * step) row(at + step).past = null;
  });
  const last = past.at(-1);
  const fresh = last && !(step && now - last.at > 3 * step);
  if (fresh) Object.assign(row(now), { past: last.value, ahead: last.value, low: last.value, high: last.value });
  for (const each of forecast) {
    const at = ms(each.time);
    if (at > now) Object.assign(row(at), { ahead: each.intensity, low: each.low ?? null, high: each.high ?? null });
  }
  for (const at of moments) row(at);
  const times = [...rows.keys()].sort((a, b) => a - b);
  const column = (name) => times.map((at) => rows.get(at)[name]);
  return { x: times.map((at) => at / 1000), past: column("past"), ahead: column("ahead"), low: column("low"), high: column("high") };
}

function median(values) {
  return values.length ? values.sort((a, b) => a - b)[values.length >> 1] : 0;
}

/** The value that holds at a time (ms): the latest at or before it; null where there is none. */
export function valueAt(history, forecast, now, at) {
  const points = at <= now ? history : [...history.slice(-1), ...forecast];
  let found = null;
  for (const each of points) {
    if (ms(each.time) > at) break;
    found = each;
  }
  return found === null ? null : found.intensity;
}

/** The lowest and highest value shown, with room around them; never below zero. */
export function extent(values) {
  const known = values.filter((each) => each !== null && each !== undefined);
  if (!known.length) return [0, 100];
  const least = Math.min(...known);
  const most = Math.max(...known);
  const room = Math.max((most - least) * 0.12, 1);
  return [Math.max(0, least - room), most + room];
}
