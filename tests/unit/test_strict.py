"""Submissions over HTTP mean one thing only, or are refused."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.gateway.intake.strict import (
    Malformed,
    Read,
    WrongField,
    _exact_names,
    _plain_names,
    line,
    lines,
    names,
    submission,
)

MOST = 64 << 10


def nested(depth: int, opening: str = '{"x":', closing: str = "}") -> bytes:
    """A payload nested so deep, in a body that is one deeper."""
    return f'{{"type":"a","payload":{opening * depth}1{closing * depth}}}'.encode()


@pytest.mark.parametrize(
    ("body", "field", "word"),
    [
        (b'{"type":"a","dedline":"6h"}', "dedline", "deadline"),
        (b'{"type":"a","x":1}', "x", "max_attempts"),
        (b'{"type":"a","job_id":"x"}', "job_id", "gateway"),
        (b'{"type":"a","submitted_at":null}', "submitted_at", "gateway"),
        (b"{}", "type", "missing"),
        (b'{"type":1}', "type", "str"),
        (b'{"type":"a","labels":{"a":1}}', "labels", "str"),
        (b'{"type":"a","payload":{"x":"' + b"y" * MOST + b'"}}', "payload", "65536"),
    ],
)
def test_a_wrong_field_is_named(body: bytes, field: str, word: str) -> None:
    with pytest.raises(WrongField, match=word) as caught:
        submission(body, MOST)
    assert caught.value.field.startswith(field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"type":"a"}x',
        b'{"type":"a"}{"type":"a"}',
        b'\xef\xbb\xbf{"type":"a"}',
        b'{"type":"a","payload":{"x":NaN}}',
        b'{"type":"a","payload":{"x":-Infinity}}',
        b'{"type":"a","type":"b"}',
        b'{"type":"a","payload":{"x":[{"y":1,"y":2}]}}',
        b'{"type":"a","payload":{"x":1,"\\u0078":2}}',
        b'{"type":"a","labels":{"l":"1","l":"2"}}',
        b'{"type":"a"'.decode().encode("utf-16"),
        nested(64),
        nested(64, "[", "]").replace(b":[", b':{"x":[', 1).replace(b"]}", b"]}}", 1),
        nested(100_000)[: MOST * 4],
    ],
)
def test_what_could_be_read_in_two_ways_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        submission(body, 10 * MOST)


def test_what_is_deep_enough_for_anybody_is_taken() -> None:
    read = submission(nested(63), MOST)
    assert not read.named_project
    assert json.loads(bytes(read.submitted.payload))
    assert json.loads(read.data) == json.loads(nested(63))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, max_size=6))
def test_names_are_those_of_the_outermost_object(value: dict[str, Any]) -> None:
    found = names(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    assert set(found) == {each.encode("utf-8", "replace").decode() for each in value}


few = st.sampled_from(["a", "b", "{", "[", '"', "\\", "é", " "])
pairs = st.lists(st.tuples(few, values | st.lists(few)), max_size=4)
objects = st.recursive(
    pairs, lambda inner: st.lists(st.tuples(few, inner), max_size=3), max_leaves=6
)


def written(value: Any) -> str:
    """JSON, in which lists of pairs are objects that may have a name twice."""
    if isinstance(value, list) and all(type(each) is tuple for each in value):
        members = (f"{json.dumps(n, ensure_ascii=False)}:{written(v)}" for n, v in value)
        return "{" + ",".join(members) + "}"
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ('"project":"a"', True),
        ('"project":"default"', True),
        ('"project":"d\\u0065fault"', True),
        ('"urgency":"normal"', False),
        ('"payload":{"project":"a"}', False),
        ('"payload":{"a":{"b":"c"},"d":["e","e"]}', False),
    ],
)
def test_a_project_is_named_also_where_it_is_the_default_one(more: str, named: bool) -> None:
    assert submission(f'{{"type":"a",{more}}}'.encode(), MOST).named_project is named


fields = st.fixed_dictionaries(
    {"type": few},
    optional={
        "project": few,
        "urgency": st.sampled_from(["normal", "urgent"]),
        "payload": st.dictionaries(few, values, max_size=3) | objects,
        "labels": st.dictionaries(few, few, max_size=3) | st.lists(st.tuples(few, few)),
        "zones": st.lists(few, max_size=3),
        "deadline": few | st.integers(0, 9) | st.none(),
        "job_id": st.none() | few,
    },
)


@given(fields, st.sampled_from(["", ',"type":"a"', ',"deadline":3', ',"project":"default"']))
def test_a_submission_is_judged_alike_however_plain_it_is(value: dict[str, Any], more: str) -> None:
    text = "{" + ",".join(f'"{n}":{written(v)}' for n, v in value.items()) + more + "}"
    try:
        expected: object = "project" in _exact_names(text.encode())
    except Malformed:
        expected = Malformed
    try:
        found: object = submission(text.encode(), MOST).named_project
    except (Malformed, WrongField) as error:
        found = type(error)
    assert found in (expected, WrongField)


plain_texts = st.builds(
    lambda value, more: "{" + ",".join(f'"{n}":{written(v)}' for n, v in value.items()) + more,
    fields,
    st.sampled_from(["}", "} ", ',"type":"a"}', "}{}", ',"idempotency_key":"k"}', "", "}}"]),
)


def one_by_one(rows: list[bytes]) -> list[Read]:
    """Of lines without a key."""
    read = [line(row, MOST) for row in rows]
    assert all(key is None for _, key in read)
    return [each for each, _ in read]


def told(read: list[Read]) -> list[tuple[bytes, bytes, bool]]:
    return [(msgspec.json.encode(each.submitted), each.data, each.named_project) for each in read]


@given(st.lists(plain_texts, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n", " \n"]))
def test_lines_are_read_together_as_one_by_one(texts: list[str], ending: str) -> None:
    body = ending.join(texts).encode("utf-8", "replace")
    rows = list(io.BytesIO(body))
    together = lines(rows, MOST)
    if together is not None:
        assert told(together) == told(one_by_one(rows))


def test_plain_lines_are_read_together() -> None:
    rows = [b'{"type":"a","urgency":"normal","payload":{"n":%d}}\n' % n for n in range(200)]
    together = lines(rows, MOST)
    assert together is not None
    assert told(together) == told(one_by_one(rows))
    assert lines([*rows, b'{"type":"a",\n', b'"urgency":"normal"}\n'], MOST) is None
    assert lines([*rows, b'{"type":"a"}{"type":"a"}'], MOST) is None
    assert lines([b'{"type":\n', b'"a"}\n', b'{"type":"a"}{"type":"a"}\n'], MOST) is None
    assert lines([*rows, b'{"type":"a","job_id":null}'], MOST) is None
    assert lines([*rows, nested(64)], MOST) is None
    assert lines(rows, 1000) is None


@given(objects.map(written) | st.text('{}[]":,ab\\ 1', max_size=20))
def test_what_plainly_has_no_name_twice_has_none(text: str) -> None:
    body = text.encode("utf-8", "replace")
    plain = _plain_names(body)
    if plain is not None:
        assert set(plain) == _exact_names(body)


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"a":{"b":"","b":""}}', '{"a":[{"":1,"":2}]}'])
def test_names_that_stand_twice_are_not_plain(text: str) -> None:
    assert _plain_names(text.encode()) is None


def test_a_line_may_have_a_key_beside_its_fields() -> None:
    read, key = line(b'{"type":"a","idempotency_key":"k"}', MOST)
    assert (key, read.named_project) == ("k", False)
    assert msgspec.json.encode(read.submitted) == read.data == b'{"type":"a"}'
    with pytest.raises(WrongField, match="no field"):
        submission(b'{"type":"a","idempotency_key":"k"}', MOST)


@given(st.binary() | st.dictionaries(st.text(), values).map(lambda each: json.dumps(each).encode()))
def test_any_bytes_are_a_submission_or_told_what_is_wrong(body: bytes) -> None:
    try:
        submission(body, MOST)
    except (Malformed, WrongField) as error:
        assert str(error)  # noqa: PT017 - either is an answer


def test_what_is_beside_the_payload_is_bounded_before_it_is_looked_into() -> None:
    escaped = "\\n" * 40_000
    with pytest.raises(Malformed, match="all but the payload is over 65536 bytes"):
        submission(f'{{"type":"a","labels":{{"a":"{escaped}"}}}}'.encode(), MOST)
    submission(b'{"type":"a"' + b" " * (60 << 10) + b"}", MOST)
