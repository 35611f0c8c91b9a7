"""Job starts, behind and ahead, counted by stretches of time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import Pool

#: Buckets of one answer, at most, and ids in each.
BUCKETS = 200
IDS = 3
_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000
_LENGTHS = (
    *(each * _SECOND for each in (1, 2, 5, 10, 15, 30)),
    *(each * _MINUTE for each in (1, 2, 5, 10, 15, 30)),
    *(each * _HOUR for each in (1, 2, 3, 6, 12, 24)),
)


class Start(msgspec.Struct, frozen=True):
    """A job's start, `at` grid ms; `pool`: None where it is not known yet."""

    at: int
    pool: Pool | None
    zone: str
    job: str


class Bucket(msgspec.Struct, frozen=True):
    """So many starts from `at` on; some of the jobs."""

    at: int
    pool: Pool | None
    jobs: int
    ids: Sequence[str] = ()

    def json(self) -> Mapping[str, Any]:
        return {"time": rfc3339(self.at), "pool": self.pool, "jobs": self.jobs, "ids": self.ids}


def bucket_length(start: int, end: int) -> int:
    """The shortest usual length, ms, of which BUCKETS are enough from `start` to `end`."""
    span = end - start
    for length in _LENGTHS:
        if span <= length * (BUCKETS - 1):
            return length
    days = -(-span // (_LENGTHS[-1] * (BUCKETS - 1)))
    return days * _LENGTHS[-1]


def bucketed(starts: Iterable[Start], length: int) -> list[Bucket]:
    """By time, and of a time by pool."""
    found: dict[tuple[int, str], tuple[Pool | None, int, list[str]]] = {}
    for each in starts:
        key = each.at // length, each.pool or ""
        pool, count, ids = found.get(key, (each.pool, 0, []))
        found[key] = pool, count + 1, [*ids, each.job] if len(ids) < IDS else ids
    return [Bucket(at * length, *rest) for (at, _), rest in sorted(found.items())]


def joined(buckets: Iterable[Bucket]) -> list[Bucket]:
    """Those of one time and pool as one, by time, and of a time by pool."""
    found: dict[tuple[int, str], Bucket] = {}
    for each in buckets:
        other = found.get((each.at, each.pool or ""))
        if other is not None:
            ids = [*other.ids, *each.ids][:IDS]
            each = Bucket(each.at, each.pool, other.jobs + each.jobs, ids)
        found[each.at, each.pool or ""] = each
    return [bucket for _, bucket in sorted(found.items())]
