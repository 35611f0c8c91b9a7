"""Learned run times are rather too long than too short, by a fifth at the most."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.run_times import ENOUGH, bucket, quantile

samples = st.lists(st.integers(0, 10**9), min_size=ENOUGH, max_size=60)


@given(samples, st.floats(0.01, 1))
def test_a_quantile_is_never_too_low_and_little_too_high(runs: list[int], share: float) -> None:
    found = quantile(Counter(map(bucket, runs)), share)
    true = sorted(runs)[math.ceil(len(runs) * share) - 1]
    assert found is not None
    assert true <= found
    assert found <= max(true, 1) * 2**0.25 + 1


@given(samples, samples)
def test_histograms_add_up_in_any_order(one: list[int], other: list[int]) -> None:
    sums = Counter(map(bucket, one)) + Counter(map(bucket, other))
    assert sums == Counter(map(bucket, [*other, *one]))


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_longer_runs_are_in_no_lower_bucket(one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert bucket(short) <= bucket(long)


def test_too_few_runs_say_nothing() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({3: ENOUGH - 1}, 0.5) is None
    with pytest.raises(ValueError):
        quantile({3: ENOUGH}, 1.5)
