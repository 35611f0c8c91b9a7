"""When a source that fails is asked again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.signal.breaker import FAILURES, PERMANENT_SECONDS, Breaker


def test_a_failure_or_two_are_tried_again_soon() -> None:
    breaker = Breaker()
    for number in range(FAILURES - 1):
        assert breaker.allows(10.0 * number)
        breaker = breaker.failed(10.0 * number, 2.0)
        assert breaker.state(10.0 * number) == "closed"
        assert not breaker.allows(10.0 * number + 1.9)
        assert breaker.allows(10.0 * number + 2.0)


def test_several_failures_in_a_row_open_it_until_one_answer_decides() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker = breaker.failed(0.0, 5.0)
    assert (breaker.state(4.9), breaker.state(5.0)) == ("open", "half-open")
    assert breaker.failed(5.0, 7.0).state(5.0) == "open"
    assert breaker.succeeded() == Breaker()


def test_who_wants_to_be_left_alone_is_left_alone_at_once() -> None:
    breaker = Breaker().failed(0.0, 2.0, retry_after=90.0)
    assert breaker.state(0.0) == "open"
    assert not breaker.allows(89.9)
    assert breaker.allows(90.0)
    assert Breaker().failed(0.0, 120.0, retry_after=90.0).until == 120.0


def test_a_fault_that_only_the_operator_can_mend_opens_it_for_long() -> None:
    breaker = Breaker().failed(0.0, 2.0, permanent=True)
    assert breaker.state(PERMANENT_SECONDS - 1) == "open"
    assert breaker.state(PERMANENT_SECONDS) == "half-open"


waits = st.floats(0, 1e6)
steps = st.lists(
    st.tuples(
        waits,  # that pass
        st.booleans(),  # whether the source answers, if it is asked
        waits,  # the wait where it does not
        st.none() | waits,
        st.booleans(),
    ),
    max_size=20,
)


@given(steps)
def test_it_is_never_asked_before_its_time_and_closes_only_by_an_answer(
    script: list[tuple[float, bool, float, float | None, bool]],
) -> None:
    breaker, now, failed = Breaker(), 0.0, 0
    for passed, answers, wait, retry_after, permanent in script:
        now += passed
        assert breaker.allows(now) == (breaker.state(now) != "open" and now >= breaker.until)
        assert breaker.failures == failed
        if not breaker.allows(now):
            continue
        if answers:
            breaker, failed = breaker.succeeded(), 0
            assert breaker.state(now) == "closed"
            assert breaker.allows(now)
            continue
        was = breaker.tripped
        breaker = breaker.failed(now, wait, retry_after=retry_after, permanent=permanent)
        failed += 1
        assert breaker.until >= now + max(wait, retry_after or 0.0)
        opened = was or permanent or retry_after is not None or failed >= FAILURES
        assert breaker.tripped == opened
