"""What an attempt emitted, and what the same energy would have emitted at submission. Pure."""

from __future__ import annotations

from typing import NamedTuple

from carbon_orchestrator.events import EmissionsRecorded, Pool, Spec
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.series import emissions_ug
from carbon_orchestrator.worker.energy import Energy


class Grid(NamedTuple):
    """The zone where the worker is, and the home zone, by which baselines are reckoned."""

    here: Intensities
    home: Intensities


def burnt(
    spec: Spec,
    number: int,
    pool: Pool,
    energy: Energy,
    started_at: int,
    at: int,
    ran_before: int,
    grid: Grid,
) -> EmissionsRecorded:
    """Of attempt `number`, over [started_at, at); `ran_before`: what earlier segments ran, all
    grid ms.

    The baseline is the same run at home, begun the moment it was submitted and never suspended:
    that of a segment is that run's share from `ran_before` on. Segments therefore add up to one
    run's, and none depends on another having been accounted for.
    """
    emitted = unpriced = baseline = 0
    if energy.mj:
        emitted, unpriced = emissions_ug(energy.mj, started_at, at, grid.here.series)
        begin = spec.submitted_at + ran_before
        baseline, baseline_unpriced = emissions_ug(
            energy.mj, begin, begin + at - started_at, grid.home.series
        )
        if baseline_unpriced:
            # Nothing may be claimed as avoided for a time about which nothing is known.
            baseline = emitted
    latest = grid.here.latest
    return EmissionsRecorded(
        job_id=spec.job_id,
        attempt=number,
        at=at,
        started_at=started_at,
        zone=grid.here.zone,
        pool=pool,
        type=spec.type,
        project=spec.project,
        energy_mj=energy.mj,
        energy_method=energy.method,
        energy_uncertainty=energy.uncertainty,
        emissions_ug=emitted,
        baseline_ug=baseline,
        unpriced_mj=unpriced,
        intensity_source=latest.source if latest else None,
        intensity_kind=latest.kind if latest else None,
        estimated=latest.estimated if latest else False,
        simulated=latest.simulated if latest else False,
    )
