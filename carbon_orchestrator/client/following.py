"""How often jobs that are waited for are looked at, and when they have changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from carbon_orchestrator.client.errors import NotEnded
from carbon_orchestrator.client.jobs import Job

_FIRST_SECONDS = 0.05
_MOST_SECONDS = 5.0
_GROWTH = 1.5
_LOOKS_A_SECOND = 50  # at most, however many jobs are waited for


class Pace:
    """Seconds between looks: growing, and short again once something has changed."""

    def __init__(self) -> None:
        self._wait = _FIRST_SECONDS

    def next(self, jobs: int, changed: bool) -> float:
        """The wait before the next look at so many jobs."""
        self._wait = _FIRST_SECONDS if changed else min(self._wait * _GROWTH, _MOST_SECONDS)
        return max(self._wait, jobs / _LOOKS_A_SECOND)


class Followed:
    """Jobs that are followed until all have ended, each named once."""

    def __init__(self, job_ids: Iterable[str]) -> None:
        self.seen: dict[str, Job | None] = dict.fromkeys(job_ids)

    @property
    def open(self) -> list[str]:
        """Those that have not ended, as far as known."""
        return [job_id for job_id, job in self.seen.items() if job is None or not job.ended]

    def look(self, job: Job) -> bool:
        """Take note of how a job stands now; whether that is news."""
        before, self.seen[job.id] = self.seen[job.id], job
        return before is None or _stand(before) != _stand(job)

    def late(self) -> NotEnded:
        """That they have not ended in time."""
        known = [job for job in self.seen.values() if job is not None]
        first = self.seen[self.open[0]] or self.open[0]
        return NotEnded(
            f"{len(self.open)} of {len(self.seen)} jobs had not ended in time, {first!r} among"
            " them",
            known,
        )


def _stand(job: Job) -> tuple[object, ...]:
    return job.state, job.attempts, job.planned_start, job.planned_pool, job.planned_zone
