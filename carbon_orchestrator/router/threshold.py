"""The default policy: a table of urgency against the band of the intensity now.

|          | low  | medium | high                             | no signal |
|----------|------|--------|----------------------------------|-----------|
| urgent   | FAST | FAST   | ECO                              | FAST      |
| normal   | FAST | ECO    | wait, at the latest start on ECO | ECO       |
| flexible | FAST | wait   | wait, at the latest start on ECO | ECO       |

A deadline wins over the table: a pool too slow to meet it is swapped for the other one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.router.outlook import Outlook, grams
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, latest_start

_WAIT = None
_TABLE: dict[Urgency, dict[Band | None, Pool | None]] = {
    "urgent": {"low": "fast", "medium": "fast", "high": "eco", None: "fast"},
    "normal": {"low": "fast", "medium": "eco", "high": _WAIT, None: "eco"},
    "flexible": {"low": "fast", "medium": _WAIT, "high": _WAIT, None: "eco"},
}
_WAITS_FOR: dict[Urgency, Literal["low", "medium"]] = {"normal": "medium", "flexible": "low"}
_NAME: dict[Pool, str] = {"fast": "FAST", "eco": "ECO"}


class Threshold(msgspec.Struct, frozen=True):
    """The table as a Policy. `max_wait_ms`: how long a job without a deadline may be deferred."""

    max_wait_ms: int = 24 * 3_600_000

    name = "threshold"
    version = 1

    def decide(self, job: JobView, outlook: Outlook, now: int) -> Dispatch | Defer:
        band = outlook.band_at(now)
        pool = _TABLE[job.urgency][band]
        if pool is not None:
            return _run(job, pool, band, now, _grid(outlook, band), due=False)
        latest = latest_start(job, "eco")
        if latest is None:
            latest = job.submitted_at + self.max_wait_ms
        if now >= latest:
            why = f"{outlook.summary}, and its latest start {utc(latest)} UTC is reached"
            return _run(job, "eco", band, now, why, due=True)
        return _wait(job, outlook, band, latest, now)


def _run(job: JobView, pool: Pool, band: Band | None, now: int, why: str, *, due: bool) -> Dispatch:
    latest = latest_start(job, pool)
    # Half of the margin is for being woken a little after the latest start.
    late = now - job.margin_ms // 2
    if latest is not None and late > latest:
        slow, other = pool, _other(pool)
        other_latest = latest_start(job, other)
        assert other_latest is not None
        due = True
        if late <= other_latest:
            pool, latest = other, other_latest
            why = f"{why}; {_NAME[slow]} is too slow for the deadline by now"
        else:
            pool, latest = "fast", latest_start(job, "fast")
            why = f"{why}; no pool meets the deadline any more"
    return Dispatch(
        pool=pool,
        reason=f"dispatched on {_NAME[pool]}: {why}",
        due=due,
        band=band,
        latest_start=latest,
    )


def _wait(job: JobView, outlook: Outlook, band: Band | None, latest: int, now: int) -> Defer:
    pool: Pool = "eco"
    planned = latest
    until = f"nothing better is forecast before; planned for {utc(latest)} UTC, its latest start"
    ahead = outlook.next_at_most(_WAITS_FOR[job.urgency], now)
    if ahead is not None and ahead[0] < latest:
        time, value = ahead
        low = outlook.low
        then: Pool = "fast" if low is not None and value <= low else "eco"
        then_latest = latest_start(job, then)
        if then_latest is None or time <= then_latest:
            pool, planned = then, time
            until = (
                f"planned for {utc(time)} UTC when {grams(value)} is forecast,"
                f" latest start {utc(latest)}"
            )
    return Defer(
        pool=pool,
        planned_start=planned,
        latest_start=latest,
        reason=f"deferred: {outlook.summary}; {until}, on {_NAME[pool]}",
        band=band,
    )


def _grid(outlook: Outlook, band: Band | None) -> str:
    if band is not None:
        return outlook.summary
    if outlook.time is None:
        return "no usable carbon signal"
    return f"no usable carbon signal since {utc(outlook.time)} UTC"


def _other(pool: Pool) -> Pool:
    return "eco" if pool == "fast" else "fast"


def utc(time: int) -> str:
    """A time in ms since the Unix epoch as "2020-01-01 13:00", UTC, seconds cut off."""
    return _minute(time // 60_000)


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M")
