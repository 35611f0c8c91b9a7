"""What came of a simulation: sums a policy, rows a job."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.router.outlook import quantile
from carbon_orchestrator.signal.series import Series, emissions_ug
from carbon_orchestrator.simulation.fate import Fate


class Outcome(msgspec.Struct, frozen=True):
    """A policy's sums over all jobs. Lengths of time in ms, energy in mJ, emissions in µg CO2e.

    `optimum_ug`: the least possible (optimum.py). Waiting is all the time between submission and
    end in which a job did not run. `missed`: deadlines that could have been met at submission.
    """

    policy: str
    jobs: int
    energy_mj: int
    emissions_ug: int
    run_now_ug: int
    optimum_ug: int
    mean_wait_ms: float
    p95_wait_ms: float
    missed: int
    segments: int
    eco_share: float  # of the energy

    @property
    def saved(self) -> float:
        """Share of what running everything at once emits."""
        return 1 - self.emissions_ug / self.run_now_ug if self.run_now_ug else 0.0

    @property
    def of_optimum(self) -> float | None:
        """Share of the saving that was possible; None where none was."""
        possible = self.run_now_ug - self.optimum_ug
        return (self.run_now_ug - self.emissions_ug) / possible if possible > 0 else None


Prices = Mapping[str, Series]


def emitted_ug(fate: Fate, prices: Prices) -> int:
    """µg CO2e of all segments, by the true intensities of their zones."""
    return sum(
        emissions_ug(part.energy_mj, part.start, part.end, prices[part.zone])[0]
        for part in fate.segments
    )


def outcome(
    policy: str,
    fates: Sequence[Fate],
    emissions: Sequence[int],
    run_now_ug: int,
    optimum_ug: float,
) -> Outcome:
    """`emissions`: of each fate, as by `emitted_ug`."""
    waits = sorted(fate.waited_ms for fate in fates)
    parts = [part for fate in fates for part in fate.segments]
    energy_mj = sum(part.energy_mj for part in parts)
    eco_mj = sum(part.energy_mj for part in parts if part.pool == POOLS[1])
    return Outcome(
        policy=policy,
        jobs=len(fates),
        energy_mj=energy_mj,
        emissions_ug=sum(emissions),
        run_now_ug=run_now_ug,
        optimum_ug=round(optimum_ug),
        mean_wait_ms=sum(waits) / len(waits) if waits else 0.0,
        p95_wait_ms=quantile(waits, 0.95) if waits else 0.0,
        missed=sum(fate.missed for fate in fates),
        segments=len(parts),
        eco_share=eco_mj / energy_mj if energy_mj else 0.0,
    )


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            **msgspec.to_builtins(each),
            "saved": round(each.saved, 6),
            "fraction_of_optimum": None if each.of_optimum is None else round(each.of_optimum, 6),
        }
        for each in outcomes
    ]


_COLUMNS = (
    *("policy", "job", "type", "urgency", "interruptible", "submitted", "deadline"),
    *("started", "finished", "waited_s", "segments", "pools", "energy_wh", "emissions_g"),
    *("optimum_g", "missed", "reason"),
)


def write_csv(
    path: Path,
    runs: Mapping[str, tuple[Sequence[Fate], Sequence[int]]],
    optima: Sequence[float],
) -> None:
    """One row a policy and job; `runs`: fates and their emissions, by policy. Raises OSError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for policy, (fates, emissions) in runs.items():
            for fate, ug, optimum in zip(fates, emissions, optima, strict=True):
                rows.writerow([policy, *_row(fate, ug, optimum)])


def _row(fate: Fate, ug: int, optimum: float) -> list[Any]:
    spec = fate.job.spec
    assert fate.finished is not None
    return [
        spec.job_id,
        spec.type,
        spec.urgency,
        str(spec.interruptible).lower(),
        rfc3339(spec.submitted_at),
        "" if spec.deadline is None else rfc3339(spec.deadline),
        rfc3339(fate.segments[0].start),
        rfc3339(fate.finished),
        fate.waited_ms / 1000,
        len(fate.segments),
        "+".join(dict.fromkeys(part.pool for part in fate.segments)),
        round(sum(part.energy_mj for part in fate.segments) / 3.6e6, 6),
        round(ug / 1e6, 6),
        round(optimum / 1e6, 6),
        str(fate.missed).lower(),
        fate.decisions[-1].answer.reason,
    ]
