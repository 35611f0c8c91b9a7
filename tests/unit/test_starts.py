"""Starts counted by stretches of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.gateway.grid.starts import BUCKETS, IDS, Start, bucket_length, bucketed

TIMES = st.integers(0, 10**13)
STARTS = st.lists(
    st.builds(
        Start,
        st.integers(0, 1_000_000),
        st.sampled_from(["fast", "eco", None]),
        st.just("GB"),
        st.uuids().map(str),
    )
)


@given(TIMES, st.integers(1, 400 * 86_400_000))
def test_there_are_never_too_many_buckets(start: int, span: int) -> None:
    length = bucket_length(start, start + span)
    touched = (start + span - 1) // length - start // length + 1
    assert 1 <= touched <= BUCKETS
    assert length % 1000 == 0


def test_buckets_have_usual_lengths() -> None:
    day = 86_400_000
    assert bucket_length(0, 2 * day) == 15 * 60_000
    assert bucket_length(0, 60_000) == 1000
    assert bucket_length(0, 400 * day) == 3 * day


@given(STARTS, st.sampled_from([1000, 60_000]))
def test_every_start_is_counted_once_where_it_is(starts: list[Start], length: int) -> None:
    buckets = bucketed(starts, length)
    assert sum(each.jobs for each in buckets) == len(starts)
    assert len({(each.at, each.pool) for each in buckets}) == len(buckets)
    assert [each.at for each in buckets] == sorted(each.at for each in buckets)
    for each in buckets:
        held = [
            one.job
            for one in starts
            if each.at <= one.at < each.at + length and one.pool == each.pool
        ]
        assert each.jobs == len(held)
        assert list(each.ids) == held[:IDS]
