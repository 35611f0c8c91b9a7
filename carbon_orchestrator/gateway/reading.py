"""What the gateway reads of the deployment: jobs, totals, the state of streams."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from carbon_orchestrator.job_view import SUMMARY_FIELDS, details, summary
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.signal.intensity_stream import silence
from carbon_orchestrator.topology import Topology
from streams.inspection import GroupState, group_states
from streams.scripts import GATHER

_PAGE = 500
#: Pages of all jobs that one request goes through for those of one project.
_MOST_PAGES = 20


class BadCursor(ValueError):
    """A cursor that this gateway did not give out."""


class Reading:
    """Read-only queries on one partition."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology

    async def silence(self, zone: str) -> str | None:
        """Why the signal publishes nothing of the zone, as it says itself."""
        said: Any = await self._redis.hget(self._topology.signal, silence(zone))
        return None if said is None else said.decode("utf-8", "replace")

    async def job(self, job_id: str) -> dict[str, Any] | None:
        """A job with its timeline; None if there is none (or no longer)."""
        record: Any = await self._redis.hgetall(self._topology.record(job_id))
        return details(job_id, record) if record else None

    async def remembered(self, job_ids: Sequence[str]) -> list[tuple[str, str | None] | None]:
        """State, and fingerprint of the submission, of each of the jobs that there are."""
        keys = [self._topology.record(each) for each in job_ids]
        rows = await GATHER(self._redis, keys, ["state", "digest"])
        return [
            None if state is None else (state.decode(), None if of is None else of.decode())
            for state, of in rows
        ]

    async def jobs(
        self, states: list[str], limit: int, cursor: str | None, project: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of jobs in these states, latest submission first, and the next page's cursor.

        Of one `project` only, all jobs are gone through, and so many at a time: a page may then
        be short, even empty, though others follow.
        """
        at = _parse_cursor(cursor) if cursor else None
        shown: list[dict[str, Any]] = []
        for _ in range(1 if project is None else _MOST_PAGES):
            size = limit if project is None else _PAGE
            places, following = await self._places(states, size, at)
            if not places:
                return shown, None
            keys = [self._topology.record(job_id) for _, job_id in places]
            records = await GATHER(self._redis, keys, list(SUMMARY_FIELDS))
            for number, (place, row) in enumerate(zip(places, records, strict=True), 1):
                job = summary(place[1], row)
                if job is not None and project in (None, job["project"]):
                    shown.append(job)
                if project is not None and len(shown) == limit:
                    more = number < len(places) or following is not None
                    return shown, _cursor(*place) if more else None
            if following is None:
                return shown, None
            at = places[-1] if project is None else _between(places[-1], following)
        return shown, None if at is None else _cursor(*at)

    async def _places(
        self, states: list[str], limit: int, before: tuple[int, str] | None
    ) -> tuple[list[tuple[int, str]], tuple[int, str] | None]:
        """Submission times and ids of the next jobs, and those of the one after them."""
        # Jobs of the same millisecond as the cursor are read again and skipped, however many.
        most = limit + 1 if before is None else limit * 2 + 501
        while True:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for state in states:
                    pipeline.zrange(
                        self._topology.index(state),
                        "+inf" if before is None else before[0],
                        "-inf",
                        byscore=True,
                        desc=True,
                        offset=0,
                        num=most,
                        withscores=True,
                    )
                rows: Any = await pipeline.execute()
            read = [[(int(score), member.decode()) for member, score in row] for row in rows]
            # Of a state that was cut off with too few left, not all of the next are known yet.
            if before is None or not any(
                len(row) == most and sum(place < before for place in row) <= limit for row in read
            ):
                break
            most *= 4
        found = sorted((place for row in read for place in row), reverse=True)
        if before is not None:
            found = [each for each in found if each < before]
        return found[:limit], found[limit] if len(found) > limit else None

    async def counts(self) -> dict[str, int]:
        """How many jobs are on record in each state."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for state in STATES:
                pipeline.zcard(self._topology.index(state))
            rows = await pipeline.execute()
        return dict(zip(STATES, map(int, rows), strict=True))

    async def unfinished(self) -> int:
        """How many jobs are not in a terminal state."""
        counts = await self.counts()
        return sum(count for state, count in counts.items() if state not in TERMINAL)

    async def totals(self, first: str | None, last: str | None) -> dict[str, Mapping[bytes, bytes]]:
        """The hashes of the days from `first` to `last` (2020-01-31), both included."""
        start = int(first.replace("-", "")) if first else "-inf"
        end = int(last.replace("-", "")) if last else "+inf"
        days: Any = await self._redis.zrange(
            self._topology.days,
            start,
            end,
            byscore=True,
        )
        names = [each.decode() for each in days]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(self._topology.totals(name))
            rows: Any = await pipeline.execute()
        return dict(zip(names, rows, strict=True))

    async def ever(self) -> Mapping[bytes, bytes]:
        """The sums of all days."""
        found: Any = await self._redis.hgetall(self._topology.ever)
        return dict(found)

    async def groups(self) -> list[GroupState]:
        """Every stream and group, in the order of the data path."""
        return [
            state
            for streams in self._topology.groups.values()
            for stream in streams
            for state in await group_states(self._redis, stream)
        ]

    async def dead_letters(self) -> int:
        return int(await self._redis.xlen(self._topology.dead_letters))


def _between(place: tuple[int, str], following: tuple[int, str]) -> tuple[int, str]:
    """A place after which `following` is the next: it does not tell the id in `place`, which may
    be of a job that whoever gets the cursor must not know of."""
    score, job_id = place
    if following[0] < score:
        return score, ""
    length = 1
    while job_id[:length] <= following[1]:
        length += 1
    return score, job_id[:length]


def _cursor(score: int, job_id: str) -> str:
    return base64.urlsafe_b64encode(f"{score}:{job_id}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        score, _, job_id = text.partition(":")
        return int(score), job_id
    except (ValueError, binascii.Error):
        raise BadCursor("the cursor is none that was given out; start without one") from None
