// The deployment's health, asked for once for whoever shows it.
import { get, words } from "./api.js";
import { setClock } from "./clock.js";
import { watch } from "./live.js";

const readers = new Set();
let latest = { health: null, error: null };

/** Call `reader(health, error)` now and whenever it changes: an answer of /health, or in words why
 * there is none (the health is then the last one that came, if any). */
export function onHealth(reader, signal) {
  readers.add(reader);
  signal.addEventListener("abort", () => readers.delete(reader));
  reader(latest.health, latest.error);
}

/** Follow it; gives {refresh}. */
export function followHealth(signal) {
  function tell(health, error) {
    latest = { health, error };
    for (const each of readers) each(health, error);
  }
  return watch("/health", {
    types: ["intensity.observed", "role.started"],
    every: 5000,
    signal,
    onData(health) {
      if (health.carbon) setClock(health.carbon.clock);
      else get("/carbon", { signal }).then((carbon) => setClock(carbon.clock), () => {}); // a key that sees one project
      tell(health, null);
    },
    onError: (error) => tell(latest.health, words(error)),
  });
}
