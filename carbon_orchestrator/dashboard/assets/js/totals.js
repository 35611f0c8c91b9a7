// The sum of a report's rows, with the figures that follow from sums (accounting/report.py). Pure.

const DERIVED = new Set(["share_reached", "mean_wait_ms", "sci_ug", "uncertainty"]);

/** One row for all; integers add up exactly below 2^53. */
export function totalOf(rows) {
  const total = {};
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (Number.isInteger(value) && !DERIVED.has(name)) total[name] = (total[name] ?? 0) + value;
    }
  }
  const { completed, energy_mj: energy, bounded_baseline_ug: baseline } = total;
  const possible = baseline - total.bound_ug;
  return {
    ...total,
    share_reached: possible > 0 ? (baseline - total.bounded_ug) / possible : null,
    mean_wait_ms: completed ? total.wait_ms / completed : null,
    sci_ug: completed ? (total.emitted_now_ug + total.embodied_ug) / completed : null,
    uncertainty: energy ? total.uncertain_mj / energy : null,
  };
}
