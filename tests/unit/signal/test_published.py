"""What is known to be published, and the mark by which two publishers notice each other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.events import CancelRequested, IntensityObserved
from carbon_orchestrator.signal.provider import Point
from carbon_orchestrator.signal.published import OWN, Grid, Mark, Published
from streams.event import Message

REAL, SIMULATED = Grid("average", False), Grid("average", True)
MARGINAL = Grid("marginal", False)
STEP = 1_800_000


def observed(time: int, value: float = 100.0, **more: Any) -> IntensityObserved:
    fields: dict[str, Any] = {"zone": "GB", "source": "A", "resolution_ms": STEP, **more}
    return IntensityObserved(time=time, intensity=value, **fields)


def message(event: Any, entry_id: str = "5-0") -> Message:
    return Message(entry_id, 0, event)


def published(*events: IntensityObserved, **options: Any) -> Published:
    table = Published("GB", **options)
    for event in events:
        table.apply(message(event))
    return table


times = st.integers(0, 4_102_444_800_000)
entries = st.builds("{}-{}".format, st.integers(0, 1 << 60), st.integers(0, 1 << 60))


@given(times, st.floats(0, 1e9), st.integers(0, 1 << 60), entries)
def test_a_mark_is_read_as_it_was_written(time: int, value: float, count: int, since: str) -> None:
    mark = Mark(time, value, count, since)
    assert Mark.parse(str(mark)) == mark


def test_a_mark_of_an_earlier_version_is_read() -> None:
    assert Mark.parse("1700000000000:123.5") == Mark(1_700_000_000_000, 123.5, 0, "0-0")


def test_the_latest_word_on_a_time_counts() -> None:
    table = published(observed(STEP, 100), observed(STEP, 90, source="B", estimated=True))
    known = table.get(REAL, STEP)
    assert known is not None
    assert (known.value, known.source, known.estimated) == (90, "B", True)
    assert table.real(REAL) == [(Point(STEP, 90, True), STEP)]


def test_averages_marginal_and_simulated_values_lie_apart() -> None:
    table = published(
        observed(STEP, 1),
        observed(STEP, 2, kind="marginal"),
        observed(STEP, 3, simulated=True),
    )
    for grid, value in ((REAL, 1), (MARGINAL, 2), (SIMULATED, 3)):
        assert [point.value for point, _ in table.real(grid)] == [value]
        assert table.times(grid, 0, 9 * STEP) == [STEP]


def test_what_holds_at_a_time_and_what_is_newest() -> None:
    table = published(*(observed(time * STEP, time) for time in (4, 2, 3)))
    table.apply(message(observed(5 * STEP, 5, source=OWN, estimated=True)))
    assert table.holding(REAL, 2 * STEP - 1) is None
    held = [table.holding(REAL, at) for at in (2 * STEP, 4 * STEP - 1, 9 * STEP)]
    assert [each.value for each in held if each is not None] == [2, 3, 5]
    assert (table.newest(REAL), table.newest_real(REAL)) == (5 * STEP, 4 * STEP)
    assert table.times(REAL, 3 * STEP, 5 * STEP) == [3 * STEP, 4 * STEP, 5 * STEP]
    assert [point.time // STEP for point, _ in table.real(REAL)] == [2, 3, 4], "not our own"
    assert table.newest(MARGINAL) is table.newest_real(MARGINAL) is None


def test_other_zones_other_clocks_and_other_events_are_left_out() -> None:
    table = Published("GB", since="5-0")
    table.apply(message(observed(STEP), "5-0"))
    table.apply(message(observed(STEP, zone="FR"), "6-0"))
    table.apply(message(CancelRequested(job_id="x"), "6-1"))
    assert table.latest is None
    table.apply(message(observed(STEP), "5-1"))
    assert table.latest is not None


def test_the_latest_event_is_the_newest_or_the_one_that_looks_ahead() -> None:
    first = observed(4 * STEP, forecast=[(5 * STEP, 1.0)])
    table = published(first, observed(3 * STEP))
    assert table.latest == first, "a revision of the past says nothing of now"
    older = observed(3 * STEP, source="B", forecast=[(5 * STEP, 1.0)])
    table.apply(message(older))
    assert table.latest == older


def test_what_is_too_old_is_forgotten() -> None:
    table = published(*(observed(time * STEP) for time in range(10)), kept_ms=2 * STEP)
    assert table.times(REAL, 0, 99 * STEP) == [7 * STEP, 8 * STEP, 9 * STEP]
    assert table.get(REAL, 6 * STEP) is None
