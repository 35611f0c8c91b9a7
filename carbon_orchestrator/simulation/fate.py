"""What becomes of a job in a simulation."""

from __future__ import annotations

from typing import NamedTuple

from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.capacity import Booking
from carbon_orchestrator.router.expectation import Done
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView
from carbon_orchestrator.simulation.workload import Job


class Segment(NamedTuple):
    """An unbroken run over [start, end), grid ms."""

    pool: Pool
    zone: str
    start: int
    end: int
    energy_mj: int


class Decided(NamedTuple):
    """A decision: when, and what. The answer's reason says why. `running`: the job ran, and is
    to pause."""

    at: int
    answer: Dispatch | Defer
    running: bool = False


class Fate:
    """A job under way, and in the end all that happened to it.

    `segments`: its runs; `decisions`: the answers that changed its plan, or all that were given.
    `finished`: when it ended, grid ms.
    """

    __slots__ = (
        *("booking", "decisions", "done", "finished", "job", "number", "plan", "segments"),
        *("started", "version", "view", "worked"),
    )

    def __init__(self, number: int, job: Job) -> None:
        self.number, self.job = number, job
        self.segments: list[Segment] = []
        self.decisions: list[Decided] = []
        self.finished: int | None = None
        #: As the router reckons it; `worked` is the share of it that was no overhead.
        self.done = Done()
        self.worked: dict[Pool, float] = {"fast": 0.0, "eco": 0.0}
        self.plan: Defer | None = None
        self.booking: tuple[Pool, str, Booking] | None = None
        self.view: JobView | None = None  # as of the latest decision
        self.started: tuple[Pool, str, int] | None = None  # where it runs, since when
        self.version = 0  # of what is expected next; older events about it are void

    @property
    def waited_ms(self) -> int:
        """From submission to its end, as far as it did not run."""
        assert self.finished is not None
        ran = sum(each.end - each.start for each in self.segments)
        return self.finished - self.job.spec.submitted_at - ran

    @property
    def missed(self) -> bool:
        """Whether it ended after a deadline that it could have met."""
        deadline = self.job.spec.deadline
        late = deadline is not None and self.finished is not None and self.finished > deadline
        return late and self.job.feasible
