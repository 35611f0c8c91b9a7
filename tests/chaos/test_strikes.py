"""The seed alone says what befalls whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chaos.plan import KINDS, Plan, chosen
from benchmarks.chaos.strikes import schedule


@given(st.integers(0, 1 << 31))
def test_ten_minutes_hold_every_kind_and_no_target_is_struck_twice_at_once(seed: int) -> None:
    plan = Plan(seed=seed)
    strikes = schedule(plan)
    assert strikes == schedule(plan)
    assert {each.kind for each in strikes} == set(KINDS)
    over: dict[tuple[bool, str], float] = {}
    for each in strikes:
        assert each.at + each.seconds <= plan.seconds
        on_link = each.kind in chosen("network")
        assert each.at >= over.get((on_link, each.target), 0.0)
        over[on_link, each.target] = each.at + each.seconds


def test_faults_are_chosen_by_name_and_by_group() -> None:
    assert chosen("all") == KINDS
    assert chosen("oom, kill") == ("kill", "oom")
    assert set(chosen("full,kill")) == {"kill", "oom", "disk", "archive"}
    with pytest.raises(ValueError, match="no fault 'flood'"):
        chosen("flood")
