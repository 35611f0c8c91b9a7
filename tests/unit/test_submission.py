"""What is accepted as a job, and under which id."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import Config, JobType, complete
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.submission import (
    DeadlinePassed,
    Invalid,
    UnknownType,
    accept,
    derived_job_id,
    digest,
    is_job_id,
    new_job_id,
)

CONFIG = complete(Config(types={"x": JobType(command=["true"])}, default_types=False))
NOW = 1_590_969_600_000  # 2020-06-01
HOUR = 3_600_000
ID = derived_job_id(0, "x")
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)


def submitted(payload: Any = None, **fields: Any) -> JobSubmitted:
    raw = msgspec.Raw(b"{}" if payload is None else json.dumps(payload).encode())
    return JobSubmitted(type="x", payload=raw, **fields)


@given(st.integers(0, 99_999), st.integers(0, 99_999))
def test_ids_say_their_partition(mine: int, other: int) -> None:
    for job_id in (new_job_id(mine), derived_job_id(mine, "a")):
        assert is_job_id(job_id, mine)
        assert is_job_id(job_id, other) == (mine == other)


def test_ids_are_unique_and_in_order_of_time() -> None:
    assert len({new_job_id(0) for _ in range(1000)}) == 1000
    assert new_job_id(0)[:9] <= new_job_id(0)[:9]


@given(st.lists(texts.filter(lambda t: "\0" not in t), max_size=3), st.lists(texts, max_size=3))
def test_an_identity_has_one_id_and_another_another(one: list[str], other: list[str]) -> None:
    assert derived_job_id(0, *one) == derived_job_id(0, *one)
    if "\0".join(one) != "\0".join(other):
        assert derived_job_id(0, *one) != derived_job_id(0, *other)


@given(objects, st.integers(0, 4))
def test_a_digest_knows_content_from_form(payload: dict[str, Any], indent: int) -> None:
    turned = dict(reversed(payload.items()))
    spaced = msgspec.Raw(json.dumps(turned, indent=indent, ensure_ascii=False).encode())
    plain = submitted(payload)
    assert digest(plain) == digest(msgspec.structs.replace(plain, payload=spaced))
    assert digest(plain) != digest(submitted({**payload, "another": 1}))
    assert digest(plain) != digest(submitted(payload, urgency="urgent"))


def test_large_numbers_are_told_apart() -> None:
    assert digest(submitted({"n": 10**40})) != digest(submitted({"n": 10**40 + 1}))


def test_a_deadline_is_a_time_or_a_wait() -> None:
    def deadline(value: Any) -> int | None:
        return accept(submitted(deadline=value), CONFIG, ID, NOW).deadline

    assert deadline("6h") == deadline("PT6H") == deadline(21_600) == NOW + 6 * HOUR
    assert deadline("2020-06-01T02:00:00+01:00") == NOW + HOUR
    assert deadline(None) == NOW + 90 * 60_000
    with pytest.raises(DeadlinePassed):
        deadline("2020-05-31T23:59:59Z")
    with pytest.raises(DeadlinePassed):
        deadline(0)
    for wrong in ("soon", "2020-99-99", True, "9y", "500d", -1):
        with pytest.raises(Invalid) as caught:
            deadline(wrong)
        assert caught.value.field == "deadline"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"project": ""}, "project"),
        ({"project": "a|b"}, "project"),
        ({"labels": {"a b": ""}}, "labels"),
        ({"labels": {"a": "x" * 257}}, "labels.a"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"expected_duration": "-1s"}, "expected_duration"),
        ({"payload": [1]}, "payload"),
        ({"payload": {"a": "x" * 70_000}}, "payload"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        accept(submitted(**fields), CONFIG, ID, NOW)
    assert caught.value.field == field


def test_a_payload_is_text() -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        accept(JobSubmitted(type="x", payload=msgspec.Raw(b'{"a":"\xff"}')), CONFIG, ID, NOW)


@pytest.mark.parametrize("now", [-1, 10**18])
def test_no_job_is_of_a_time_that_no_calendar_has(now: int) -> None:
    with pytest.raises(Invalid) as caught:
        accept(submitted(), CONFIG, ID, now)
    assert caught.value.field == "submitted_at"


def test_an_unknown_type_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownType, match="no type 'y' is configured; known: x"):
        accept(JobSubmitted(type="y"), CONFIG, ID, NOW)
