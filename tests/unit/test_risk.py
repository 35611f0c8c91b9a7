"""Which jobs are likely to miss their deadlines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.gateway.deployment.risk import InLine, in_pool, overdue, undecided

NOW = 1_000_000


def job(
    name: str, deadline: int | None, mean: int = 100, longest: int = 200, began: int | None = None
) -> InLine:
    return InLine(name, "train", deadline, mean, longest, began)


def at_risk(*jobs: InLine, slots: int = 1) -> dict[str, int]:
    return {each.job_id: each.expected_end for each in in_pool(jobs, "eco", slots, NOW)}


def test_a_running_job_is_at_risk_when_its_longest_run_ends_too_late() -> None:
    began = NOW - 150
    assert at_risk(job("a", NOW + 49, began=began)) == {"a": NOW + 50}
    assert at_risk(job("a", NOW + 50, began=began)) == {}
    assert at_risk(job("a", None, began=began)) == {}


def test_a_job_that_overruns_is_expected_to_run_a_little_on() -> None:
    assert at_risk(job("a", NOW + 5, began=NOW - 900)) == {"a": NOW + 10}


def test_who_waits_begins_when_those_before_it_are_expected_to_be_done() -> None:
    running = job("a", None, began=NOW - 60)  # 40 left of its mean
    assert at_risk(running, job("b", NOW + 239)) == {"b": NOW + 240}
    assert at_risk(running, job("b", NOW + 240)) == {}
    assert at_risk(running, job("b", None), job("c", NOW + 300)) == {"c": NOW + 340}
    assert at_risk(running, job("b", None), job("c", NOW + 300), slots=2) == {}


def test_a_pool_without_workers_is_taken_for_one_that_gets_one() -> None:
    (risk,) = in_pool([job("a", NOW + 199)], "eco", 0, NOW)
    assert risk.expected_end == NOW + 200
    assert "no worker of eco is alive" in risk.why
    assert at_risk(job("a", NOW + 200), slots=0) == {}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5000),
            st.integers(1, 500),
            st.integers(0, 500),
            st.none() | st.integers(0, 900),
        ),
        max_size=12,
    ),
    st.integers(0, 4),
)
def test_more_slots_bring_no_more_risk(
    made: list[tuple[int, int, int, int | None]], slots: int
) -> None:
    jobs = [
        job(f"{n}", NOW + left, mean, mean + more, None if ago is None else NOW - ago)
        for n, (left, mean, more, ago) in enumerate(made)
    ]
    jobs.sort(key=lambda each: each.started_at is None)
    running = sum(each.started_at is not None for each in jobs)
    fewer, more_slots = at_risk(*jobs, slots=running + slots), at_risk(*jobs, slots=running + 5)
    assert set(more_slots) <= set(fewer)
    for name, end in fewer.items():
        assert end > NOW + made[int(name)][0]
        assert more_slots.get(name, end) <= end


def test_a_deferred_job_past_its_latest_start() -> None:
    # It may take 100, and 10 are kept free before its deadline.
    late = NOW - 11
    risk = overdue("a", "train", late + 110, late, 10, NOW)
    assert risk is not None
    assert risk.expected_end == NOW + 100
    assert "router" in risk.why
    assert overdue("a", "train", NOW + 110, NOW, 10, NOW) is None
    assert overdue("a", "train", NOW + 100, NOW - 10, 10, NOW) is None


def test_a_job_that_no_router_has_decided_about() -> None:
    assert undecided("a", "train", NOW + 100, 100, NOW) is None
    risk = undecided("a", "train", NOW + 99, 100, NOW)
    assert risk is not None
    assert risk.json()["id"] == "a"
