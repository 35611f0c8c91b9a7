"""What goes on record of what an attempt burnt. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from carbon_orchestrator.accounting.figures import figures
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import EmissionsRecorded, JobDispatched, Pool
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.worker.energy import Energy

_UG_PER_KG = 10**9


class Grid(NamedTuple):
    """The zone where the worker is, and the home zone, by which baselines are reckoned."""

    here: Intensities
    home: Intensities


class Share(NamedTuple):
    """A slot's share of the machine that it is on: `kg` CO2e of making the machine, of which a
    slot uses up a `slots`th in `lifetime_ms` of wall time."""

    kg: float = 0.0
    lifetime_ms: int = 1
    slots: int = 1

    @classmethod
    def of(cls, config: Config, slots: int) -> Share:
        power = config.power
        return cls(power.embodied_kg, milliseconds(power.lifetime), slots)

    def embodied_ug(self, run_ms: int) -> int:
        """µg CO2e that a run of so much wall time uses up: M = TE x TS x RS (ISO/IEC 21031)."""
        return round(self.kg * _UG_PER_KG * run_ms / (self.lifetime_ms * self.slots))


NOT_SHARED = Share()


class Run(NamedTuple):
    """Of one attempt: its span and what earlier segments ran, grid ms; what it ran, wall ms."""

    started_at: int
    at: int
    run_ms: int
    outcome: str
    ran_before: int = 0


def burnt(
    dispatched: JobDispatched,
    number: int,
    pool: Pool,
    energy: Energy,
    run: Run,
    grid: Grid,
    share: Share = NOT_SHARED,
) -> EmissionsRecorded:
    """Of attempt `number` of a job.

    The baseline is the same run at home on FAST, begun the moment it was submitted and never
    suspended: that of a segment is that run's share from `ran_before` on. Segments therefore add
    up to one run's, and none depends on another having been accounted for.
    """
    spec = dispatched.spec
    latest = grid.here.latest
    begin = spec.submitted_at + run.ran_before
    length = round((run.at - run.started_at) * dispatched.fast_length)
    event = EmissionsRecorded(
        job_id=spec.job_id,
        attempt=number,
        at=run.at,
        started_at=run.started_at,
        zone=grid.here.zone,
        pool=pool,
        type=spec.type,
        project=spec.project,
        energy_mj=energy.mj,
        energy_method=energy.method,
        energy_uncertainty=energy.uncertainty,
        emissions_ug=0,
        baseline_ug=0,
        embodied_ug=share.embodied_ug(run.run_ms),
        outcome=run.outcome,
        urgency=spec.urgency,
        interruptible=spec.interruptible,
        submitted_at=spec.submitted_at,
        deadline=spec.deadline,
        baseline_mj=round(energy.mj * dispatched.fast_energy),
        baseline_from=begin,
        # What is to come is not known yet.
        baseline_ms=max(0, min(length, run.at - begin)),
        baseline_zone=None if grid.home.zone == grid.here.zone else grid.home.zone,
        priced_by=grid.here.applied,
        intensity_source=latest.source if latest else None,
        intensity_kind=latest.kind if latest else None,
        estimated=latest.estimated if latest else False,
        simulated=latest.simulated if latest else False,
    )
    kind, simulated = event.intensity_kind, event.simulated
    emitted, baseline, unpriced = figures(
        event, grid.here.of(kind, simulated), grid.home.of(kind, simulated)
    )
    return msgspec.structs.replace(
        event, emissions_ug=emitted, baseline_ug=baseline, unpriced_mj=unpriced
    )
