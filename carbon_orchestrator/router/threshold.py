"""The default policy: a table of urgency against the band of the intensity now.

|          | low  | medium | high                             | no signal |
|----------|------|--------|----------------------------------|-----------|
| urgent   | FAST | FAST   | ECO                              | FAST      |
| normal   | FAST | ECO    | wait, at the latest start on ECO | ECO       |
| flexible | FAST | wait   | wait, at the latest start on ECO | ECO       |

A deadline wins over the table: a pool too slow to meet it is swapped for the other one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.router.deadline import latest_start, run_at_once
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Site
from carbon_orchestrator.router.words import NAMES, grams, utc

_WAIT = None
_TABLE: dict[Urgency, dict[Band | None, Pool | None]] = {
    "urgent": {"low": "fast", "medium": "fast", "high": "eco", None: "fast"},
    "normal": {"low": "fast", "medium": "eco", "high": _WAIT, None: "eco"},
    "flexible": {"low": "fast", "medium": _WAIT, "high": _WAIT, None: "eco"},
}
_WAITS_FOR: dict[Urgency, Literal["low", "medium"]] = {"normal": "medium", "flexible": "low"}


class Threshold(msgspec.Struct, frozen=True):
    """The table as a Policy. `max_wait_ms`: how long a job without a deadline may be deferred.

    Of several zones it runs a job in the one of least intensity among those whose band says
    "run", and waits only where all say "wait".
    """

    max_wait_ms: int = 24 * 3_600_000

    name = "threshold"
    version = 2
    forecasts = False
    pauses = False

    def decide(self, job: JobView, sites: Sequence[Site], now: int) -> Dispatch | Defer:
        if len(sites) == 1:
            return self._decide(job, sites[0], now)
        answers = [(site, self._decide(job, site, now)) for site in sites]
        run = [(site, answer) for site, answer in answers if isinstance(answer, Dispatch)]
        if run:
            return min(run, key=_least_intensity)[1]
        waits = [answer for _, answer in answers if isinstance(answer, Defer)]
        return min(waits, key=lambda answer: answer.planned_start)

    def _decide(self, job: JobView, site: Site, now: int) -> Dispatch | Defer:
        outlook = site.outlook
        band = outlook.band_at(now)
        pool = _TABLE[job.urgency][band]
        if pool is not None:
            why = outlook.summary if band is not None else outlook.unusable
            return run_at_once(job, site, pool, band, now, why, due=False)
        latest = latest_start(job, "eco")
        if latest is None:
            latest = job.submitted_at + self.max_wait_ms
        if now >= latest:
            why = f"{outlook.summary}, and its latest start {utc(latest)} UTC is reached"
            return run_at_once(job, site, "eco", band, now, why, due=True)
        ahead = self._ahead(outlook, _WAITS_FOR[job.urgency], now)
        return _wait(job, outlook, band, latest, ahead)

    def _ahead(self, outlook: Outlook, band: Literal["low", "medium"], now: int) -> _Ahead | None:
        """When the band will be this one or below, as far as is forecast."""
        point = outlook.next_reached(band, now)
        return None if point is None else _Ahead(*point, low=point in outlook.low_reached)


class Threshold1(Threshold, frozen=True):
    """Planned for the forecast to be at the limit, where the band was not left yet."""

    version = 1

    def _ahead(self, outlook: Outlook, band: Literal["low", "medium"], now: int) -> _Ahead | None:
        point = outlook.next_at_most(band, now)
        low = outlook.low
        return None if point is None else _Ahead(*point, low is not None and point[1] <= low)


class _Ahead(NamedTuple):
    """A forecast point at which a job may run, and whether the band will be low."""

    time: int
    value: float
    low: bool


def _least_intensity(answer: tuple[Site, Dispatch]) -> float:
    intensity = answer[0].outlook.intensity
    return math.inf if answer[1].band is None or intensity is None else intensity


def _wait(
    job: JobView,
    outlook: Outlook,
    band: Band | None,
    latest: int,
    ahead: _Ahead | None,
) -> Defer:
    pool: Pool = "eco"
    planned = latest
    until = f"nothing better is forecast before; planned for {utc(latest)} UTC, its latest start"
    if ahead is not None and ahead.time < latest:
        time, value, low = ahead
        then: Pool = "fast" if low else "eco"
        then_latest = latest_start(job, then)
        if then_latest is None or time <= then_latest:
            pool, planned = then, time
            until = (
                f"planned for {utc(time)} UTC when {grams(value)} is forecast,"
                f" latest start {utc(latest)}"
            )
    return Defer(
        zone=outlook.zone,
        pool=pool,
        planned_start=planned,
        latest_start=latest,
        reason=f"deferred: {outlook.summary}; {until}, on {NAMES[pool]}",
        band=band,
    )
