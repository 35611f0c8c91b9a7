"""How many workers a pool should have: a pure function, on record with all that it is given.

A pool follows its backlog, up to a share of its largest size that depends on the band of the
grid's intensity. Deadlines override that limit, and workers that have jobs are not taken away.
It grows quickly, and shrinks only to what was wanted throughout a window. Times are grid ms.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple, Self

import msgspec

from carbon_orchestrator.config import Config, ScaledPool
from carbon_orchestrator.durations import milliseconds, seconds
from carbon_orchestrator.events import (
    Backlog,
    Band,
    GridState,
    InFlight,
    Pool,
    PoolScaled,
    ScalingMemory,
)
from carbon_orchestrator.router.outlook import Outlook, band_of
from carbon_orchestrator.router.words import grams, length

#: Of the way to decide: goes up where the same inputs may give another answer.
VERSION = 1


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of one pool; config.Scaler and config.ScaledPool say what they mean."""

    slots: int = 1  # of one worker
    min: int = 0
    max: int = 4
    low: float = 1.0
    medium: float = 0.75
    high: float = 0.5
    leave: float = 0.05
    dwell_ms: int = 900_000
    hold_ms: int = 1_800_000
    window_ms: int = 900_000
    step: int = 4
    up_every_ms: int = 15_000
    down_step: int = 1
    down_every_ms: int = 15_000
    jobs_per_slot: float = 1.0

    @classmethod
    def of(cls, config: Config, pool: Pool, speed: float, slots: int | None = None) -> Self:
        """For a pool of a deployment whose grid clock runs `speed` times as fast as the wall's."""
        scaler = config.scaler
        size = scaler.pools.get(pool, ScaledPool())
        return cls(
            slots=slots or config.pools[pool].slots,
            min=size.min,
            max=size.max,
            low=size.low,
            medium=size.medium,
            high=size.high,
            leave=scaler.leave,
            dwell_ms=milliseconds(scaler.dwell),
            hold_ms=milliseconds(scaler.hold),
            window_ms=round(seconds(scaler.window) * 1000 * speed),
            step=scaler.step,
            up_every_ms=round(seconds(scaler.up_every) * 1000 * speed),
            down_step=scaler.down_step,
            down_every_ms=round(seconds(scaler.down_every) * 1000 * speed),
            jobs_per_slot=scaler.jobs_per_slot,
        )

    def limit(self, band: Band | None) -> int:
        """The most workers that may work in a band; None: the carbon is not known."""
        if band is None:
            return self.max
        share = self.low if band == "low" else self.medium if band == "medium" else self.high
        # 0.3 * 10 is a little more than 3.
        return ceil(self.max * share - 1e-9)


def grid_state(outlook: Outlook) -> GridState:
    """What a decision is given of the grid."""
    if outlook.intensity is None or outlook.low is None or outlook.high is None:
        return GridState(intensity_id=outlook.intensity_id, valid_until=outlook.valid_until)
    return GridState(
        intensity_id=outlook.intensity_id,
        intensity=outlook.intensity,
        low=outlook.low,
        high=outlook.high,
        valid_until=outlook.valid_until,
    )


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `wanted`: by the backlog alone; `limit`: by carbon alone; `pressed`: by
    deadlines alone; `busy`: how many have jobs."""

    replicas: int
    band: Band | None
    wanted: int
    limit: int
    pressed: int
    busy: int
    reason: str
    memory: ScalingMemory


class Need(NamedTuple):
    """How many workers there should be `now`, however many there are: `target`, and what it was
    made of, as in Scale; `since`: when the band began to count."""

    target: int
    band: Band | None
    since: int
    wanted: int
    limit: int
    pressed: int
    busy: int


def need(
    params: Params,
    grid: GridState,
    backlog: Backlog,
    in_flight: InFlight,
    now: int,
    memory: ScalingMemory,
) -> Need:
    """What a pool needs; of `memory`, the band counts."""
    band, since = _band(params, grid, now, memory)
    limit = params.limit(band)
    wanted, pressed = _needed(params, backlog, in_flight)
    target = min(max(min(wanted, limit), pressed, params.min), params.max)
    busy = max(in_flight.workers, ceil(in_flight.jobs / params.slots))
    return Need(target, band, since, wanted, limit, pressed, busy)


def decide(
    params: Params,
    grid: GridState,
    backlog: Backlog,
    in_flight: InFlight,
    current: int,
    now: int,
    memory: ScalingMemory,
) -> Scale:
    """How many workers a pool of `current` workers should have `now`."""
    needed = need(params, grid, backlog, in_flight, now, memory)
    target, busy = needed.target, needed.busy
    kept = memory.wanted if memory.wanted else [(now, current)]
    lately = _lately(kept, target, now, params.window_ms)
    replicas = current
    up_at, down_at = memory.up_at, memory.down_at
    if target > current:
        if _over(up_at, now, params.up_every_ms):
            replicas, up_at = min(target, current + max(params.step, current)), now
    elif (least := max(lately[0][1], busy)) < current and _over(down_at, now, params.down_every_ms):
        replicas, down_at = max(least, current - params.down_step), now
    scale = Scale(
        replicas=replicas,
        band=needed.band,
        wanted=needed.wanted,
        limit=needed.limit,
        pressed=needed.pressed,
        busy=busy,
        reason="",
        memory=ScalingMemory(
            band=needed.band,
            band_since=needed.since,
            up_at=up_at,
            down_at=down_at,
            wanted=lately,
        ),
    )
    if replicas == current:
        return scale
    return msgspec.structs.replace(
        scale, reason=_reason(params, grid, backlog, in_flight, current, now, needed, replicas)
    )


def recomputed(event: PoolScaled) -> Scale:
    """What is decided from the inputs on record. ValueError for a version that is not known."""
    if event.version != VERSION:
        raise ValueError(f"{event.version} is no known version of how pools are scaled")
    params = msgspec.json.decode(event.params, type=Params)
    return decide(
        params,
        event.grid,
        event.backlog,
        event.in_flight,
        event.current,
        event.at,
        event.memory,
    )


def _needed(params: Params, backlog: Backlog, in_flight: InFlight) -> tuple[int, int]:
    """Workers wanted for all that runs and waits, and those that deadlines need: what must start
    may not wait for a slot."""
    waiting = (backlog.waiting + backlog.soon) / params.jobs_per_slot
    wanted = ceil((in_flight.jobs + waiting) / params.slots)
    pressing = backlog.pressing + backlog.pressing_soon
    at_once = in_flight.jobs + pressing if pressing else 0
    return wanted, ceil(max(at_once, backlog.pace) / params.slots)


def _band(
    params: Params, grid: GridState, now: int, memory: ScalingMemory
) -> tuple[Band | None, int]:
    """The band that counts, and since when."""
    before, since = memory.band, memory.band_since
    if grid.intensity is None or now > grid.valid_until:
        held = before is not None and now <= grid.valid_until + params.hold_ms
        return (before, since) if held or before is None else (None, now)
    band = before
    if before is None or before == "medium":
        left = True
    elif before == "low":
        left = grid.intensity > grid.low * (1 + params.leave)
    else:
        left = grid.intensity < grid.high * (1 - params.leave)
    if left:
        band = band_of(grid.intensity, grid.low, grid.high)
    if band == before or (before is not None and not _over(since, now, params.dwell_ms)):
        return before, since
    return band, now


def _over(at: int | None, now: int, pause: int) -> bool:
    """Whether the pause since `at` is over. A clock that was set back ends all pauses."""
    return at is None or not 0 <= now - at < pause


def _lately(
    before: list[tuple[int, int]], target: int, now: int, window: int
) -> list[tuple[int, int]]:
    """What was wanted within the window, as falling (time, workers): the first is the most."""
    kept = [(at, size) for at, size in before if now - window <= at <= now and size > target]
    return [*kept, (now, target)]


def _reason(
    params: Params,
    grid: GridState,
    backlog: Backlog,
    in_flight: InFlight,
    current: int,
    now: int,
    needed: Need,
    replicas: int,
) -> str:
    why = because(params, grid, backlog, in_flight, now, needed)
    if replicas < current:
        why += f"; no more was wanted for {length(params.window_ms)}"
        if 0 < needed.busy == replicas:
            why += "; the rest have jobs"
    return f"from {current} to {replicas}: {why}"


def because(
    params: Params,
    grid: GridState,
    backlog: Backlog,
    in_flight: InFlight,
    now: int,
    needed: Need,
) -> str:
    """Why a pool needs as many workers, in words."""
    waiting = backlog.waiting + backlog.soon
    pressing = backlog.pressing + backlog.pressing_soon
    parts = [f"{waiting} jobs wait and {in_flight.jobs} run, {params.slots} slots a worker"]
    if needed.pressed > min(needed.wanted, needed.limit):
        due = f"{pressing} of them must start now" if pressing else "deadlines come near"
        parts.append(f"{due}, whatever the carbon")
    if needed.band is None:
        parts.append("nothing is known of the carbon")
    else:
        stale = grid.intensity is None or now > grid.valid_until
        known = "last known" if stale else f"at {grams(grid.intensity or 0.0)} g/kWh"
        parts.append(f"carbon is {needed.band} ({known}): {needed.limit} of {params.max} may work")
    return "; ".join(parts)
