"""What is left to run of a job that was suspended: rather too much than too little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import Config, GreenestConfig, PoolConfig, complete
from carbon_orchestrator.events import POOLS, Pool, Spec
from carbon_orchestrator.router.deciding import policy_of, view
from carbon_orchestrator.router.expectation import Done
from carbon_orchestrator.router.policy import JobView

LENGTH_MS = 3_600_000


def seen(done: Done, slowdown: float, resume_s: float) -> JobView:
    config = complete(
        Config(
            policy="greenest_slots",
            greenest=GreenestConfig(resume_cost=resume_s),
            pools={
                "fast": PoolConfig(slots=1),
                "eco": PoolConfig(slots=1, slowdown=slowdown),
            },
        )
    )
    spec = Spec(job_id="1-0", type="training", submitted_at=0, expected_duration=LENGTH_MS / 1000)
    return view(spec, config, {}, 1.0, policy_of(config)[0], done)


@given(
    runs=st.lists(st.tuples(st.sampled_from(POOLS), st.integers(1, 100)), max_size=6),
    slowdown=st.floats(0.5, 4),
    resume_s=st.integers(0, 120),
)
def test_what_resuming_took_was_no_progress(
    runs: list[tuple[Pool, int]], slowdown: float, resume_s: int
) -> None:
    """Runs of so many thousandths of the job, each after the first after a resumption."""
    pace = {"fast": 1.0, "eco": slowdown}
    done = Done()
    for number, (pool, share) in enumerate(runs):
        overhead = resume_s * 1000 if number else 0
        done = done.after(pool, round(share / 1000 * LENGTH_MS * pace[pool]) + overhead)
    job = seen(done, slowdown, resume_s)
    left = 1 - sum(share for _, share in runs) / 1000
    once_more = resume_s * 1000 if runs else 0
    assert job.mean("fast") >= left * LENGTH_MS + once_more - 10
    assert job.mean("eco") >= left * LENGTH_MS * slowdown + once_more - 10
    assert job.longest("fast") >= job.mean("fast")


def test_a_run_on_the_faster_pool_was_resumed_at_its_pace() -> None:
    done = Done().after("fast", 600_000).after("fast", 660_000)
    job = seen(done, slowdown=2.0, resume_s=60)
    # Twenty minutes are done; what is left, and two resumptions, at half the pace.
    assert job.mean("eco") == pytest.approx(2 * (2_400_000 - 60_000 + 2 * 60_000), abs=2)


def test_a_run_under_way_counts_as_far_as_it_is() -> None:
    done = Done().after("fast", 600_000).so_far("fast", 660_000)
    assert done == Done(1_260_000, 0, "fast", 1)
    job = seen(done, slowdown=1.0, resume_s=60)
    assert job.running == "fast"
    assert job.mean("fast") == pytest.approx(2_400_000, abs=2)
