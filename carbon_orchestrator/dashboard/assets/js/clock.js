// The grid clock: the time of deadlines and plans, which may run faster than the wall's.

let base = null; // {now, at, speed, signal}

/** Take over `clock` of an answer of /carbon: {now, speed, signal}. */
export function setClock(clock) {
  base = { now: Date.parse(clock.now), at: performance.now(), speed: clock.speed, signal: clock.signal };
}

/** Its time, ms since 1970; the wall's until the first answer is there. */
export function gridNow() {
  return base === null ? Date.now() : base.now + (performance.now() - base.at) * base.speed;
}

export function gridSpeed() {
  return base === null ? 1 : base.speed;
}
