// What everybody must know at once: nobody at work, no signal, an old one, a simulated one.
import { gridNow } from "./clock.js";
import { h, keyed, text } from "./dom.js";
import { duration } from "./format.js";

//: A signal is called old after this many times what lies between two of its points, at least.
const OLD_MS = 2 * 3_600_000;

const ROLES = { router: "nothing is decided", accounting: "nothing is counted" };

/** The banners for an answer of /health (null: none yet) and of the error in its place, pure. */
export function banners(health, error, now) {
  if (error) return [{ key: "away", tone: "bad", text: `No answer: ${error}. What is shown here may be old.` }];
  const missing = health?.no_consumers ?? [];
  const pools = missing.filter((role) => role.startsWith("worker ")).map((role) => role.slice(7).toUpperCase());
  const gone = missing.filter((role) => !role.startsWith("worker ")).map((role) => [role, `no ${role} is alive, so ${ROLES[role] ?? "its streams are not read"}`]);
  if (pools.length) gone.push(["workers", `no worker of ${pools.join(", ")} is alive, so nothing runs there`]);
  const list = gone.map(([key, what]) => ({ key, tone: "bad", text: `No consumers: ${what}. Work waits in the streams and is not lost.` }));
  const carbon = health?.carbon;
  if (!carbon) return list;
  if (carbon.signal === "none") {
    list.push({ key: "signal", tone: "warn", text: `No carbon signal (${carbon.unusable}). Jobs are decided without it: no deadline is missed, and nothing waits for cleaner hours.` });
  } else if (carbon.signal === "degraded") {
    list.push({ key: "signal", tone: "warn", text: `The carbon signal is degraded: ${carbon.degraded}.` });
  } else if (carbon.since && now - Date.parse(carbon.since) > OLD_MS) {
    list.push({ key: "old", tone: "warn", text: `The carbon signal is stale: its latest value is ${duration(now - Date.parse(carbon.since))} old.` });
  }
  if (carbon.simulated) {
    list.push({ key: "simulated", tone: "info", text: "Simulated carbon data: these intensities are no measurement, and neither is what was emitted or avoided." + pace(carbon.clock?.speed) });
  }
  return list;
}

/** Waits are told on the grid's clock: how long they are on one's own. */
function pace(speed) {
  return speed > 1 ? ` Its clock runs ${speed} times faster: an hour of waiting is over in ${duration(3_600_000 / speed)}.` : "";
}

/** Show them, quietly where nothing changed. */
export function showBanners(parent, health, error) {
  keyed(
    parent,
    banners(health, error, gridNow()),
    (each) => each.key,
    () => h("div", { class: "banner" }),
    (node, each) => {
      node.dataset.tone = each.tone;
      text(node, each.text);
    },
  );
}
