"""Lengths of time as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.durations import milliseconds, seconds


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        (" 2m ", 120),
        ("PT1H30M", 5400),
        ("P1D", 86_400),
        ("12", 12),
        (0, 0),
        (1.5, 1.5),
    ],
)
def test_the_forms(text: str | float, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "1 hour", "h", "-1s", "1s2", "PT", "-PT1H", "nan", "inf", "P20Y", "5x"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


@pytest.mark.parametrize("value", [True, -1, float("nan"), float("inf"), 1e12, 10**400, -(10**400)])
def test_numbers_are_checked_too(value: float) -> None:
    with pytest.raises(ValueError):
        seconds(value)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= seconds(text) < 10 * 366 * 86_400


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 999))
def test_parts_add_up(d: int, h: int, m: int, ms: int) -> None:
    assert milliseconds(f"{d}d{h}h{m}m{ms}ms") == ((d * 24 + h) * 60 + m) * 60_000 + ms
