"""Where the events about a job can be, told by its record: of each stream the stretch of time
that may hold one, so that the rest need not be read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.events import Spec
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.topology import LANES, site

#: By how much an entry may seem to be older than what made it: clocks differ (wall_clock.py).
_LEAD_MS = 2000
#: By how much what follows the end of a job may be later.
_LAG_MS = 120_000
_ENDS = frozenset({"job.completed", "job.failed", "job.suspended"})


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Streams, by name, that may hold something from `since` to `until` (None: no end), wall ms.
    `finds`: the one event that is sought, as `event_key` has it; once it is found, it is over.
    It may be as late as it likes: a commit waits for the server to come back."""

    streams: tuple[str, ...]
    since: int
    until: int | None = None
    finds: str | None = None


def event_key(event: Any) -> str:
    """What tells events about one job apart that there is one of."""
    kind = event.event_type
    return f"{'end' if kind in _ENDS else kind} {getattr(event, 'attempt', 0)}"


def searches(record: Mapping[bytes, bytes], spec: Spec, clock: GridClock) -> Sequence[Search]:
    """All that is to be searched for the events of a job."""
    return list(_searches({name.decode(): value for name, value in record.items()}, spec, clock))


def _searches(named: Mapping[str, bytes], spec: Spec, clock: GridClock) -> Iterator[Search]:
    state = named["state"].decode()
    attempts = [
        (number, {what: _time(named, f"{number}.{what}") for what in _STEPS})
        for number in range(1, int(named.get("attempt", 0)) + 1)
    ]
    known = [at for _, steps in attempts for at in steps.values() if at is not None]

    def wall(at: int) -> int:
        return max(1, clock.wall(at) - _LEAD_MS)

    begin = wall(min([spec.submitted_at, *known]))
    end = None
    ended = int(named.get("ended_at", 0)) or max(known, default=spec.submitted_at)
    if state in TERMINAL:
        end = clock.wall(ended) + _LAG_MS
    yield Search(streams=("jobs.urgent", "jobs"), since=begin, finds="job.submitted 0")
    if "cancel" in named or state == "cancelled":
        yield Search(streams=("jobs.urgent", "jobs"), since=begin, until=end)
    if spec.interruptible or state in ("rejected", "cancelled") or not _PLANNED.isdisjoint(named):
        yield Search(streams=("deferrals",), since=begin, until=end)
    for number, steps in attempts:
        if (at := steps["dispatched"]) is not None:
            lanes = tuple(_lanes(named[f"{number}.dispatched"]))
            yield Search(streams=lanes, since=wall(at), finds=f"job.dispatched {number}")
        if (at := steps["started"]) is not None:
            yield Search(streams=("completions",), since=wall(at), finds=f"job.started {number}")
        if (at := steps["finished"]) is not None:
            yield Search(streams=("completions",), since=wall(at), finds=f"end {number}")
            yield Search(
                streams=("emissions",), since=wall(at), finds=f"emissions.recorded {number}"
            )
    if state == "failed" and attempts and attempts[-1][1]["finished"] is None:
        # Given up: its workers died.
        number = attempts[-1][0]
        yield Search(streams=("completions",), since=wall(ended), finds=f"end {number}")


_STEPS = ("dispatched", "started", "finished")
#: Fields of a record that something in `deferrals` may have left there.
_PLANNED = frozenset({"plan", "replans", "suspend", "cancel"})


class _At(msgspec.Struct):
    at: int
    pool: str = ""
    zone: str | None = None


_decode = msgspec.json.Decoder(_At).decode


def _time(named: Mapping[str, bytes], field: str) -> int | None:
    return _decode(named[field]).at if field in named else None


def _lanes(dispatched: bytes) -> Iterator[str]:
    step = _decode(dispatched)
    place = site(step.pool, step.zone or "")  # type: ignore[arg-type]
    for lane in LANES:
        yield f"dispatch.{place}.{lane}" if lane else f"dispatch.{place}"
