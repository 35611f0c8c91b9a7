// The grid clock: the time of deadlines and plans, which may run faster than the wall's.

const PATIENCE_MS = 3000;

let base = null; // {now, at, speed, signal}
let known;
const told = new Promise((resolve) => (known = resolve));

/** Wait until it is known, or for so long as a page may wait for it. */
export const clockKnown = () => Promise.race([told, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);

/** Take over `clock` of an answer of /carbon: {now, speed, signal}. */
export function setClock(clock) {
  base = { now: Date.parse(clock.now), at: performance.now(), speed: clock.speed, signal: clock.signal };
  known();
}

/** Its time, ms since 1970; the wall's until the first answer is there. */
export function gridNow() {
  return base === null ? Date.now() : base.now + (performance.now() - base.at) * base.speed;
}

export function gridSpeed() {
  return base === null ? 1 : base.speed;
}
