"""Lines of the archive: what goes in comes out, to the byte, and is plain JSON."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.lines import LineError, entries, lines_of

IDS = st.builds(
    lambda ms, sequence: f"{ms}-{sequence}",
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
SPACES = st.sampled_from([(",", ":"), (", ", ": ")])
ENVELOPES = st.dictionaries(
    st.sampled_from(["type", "source", "id", "data", "time", "index", "Type", "traceparent"]),
    JSON,
    max_size=4,
)
BATCHES = st.builds(
    lambda events, spaces, ascii_: json.dumps(
        events, separators=spaces, ensure_ascii=ascii_
    ).encode("utf-8", "surrogatepass"),
    st.lists(ENVELOPES | JSON, max_size=4),
    SPACES,
    st.booleans(),
)
SINGLES = st.builds(
    lambda pairs: tuple(value for pair in pairs for value in pair),
    st.lists(
        st.tuples(
            st.sampled_from([b"type", b"source", b"data", b"id", b"time", b"batch", b"x y"]),
            st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass"))
            | JSON.map(lambda value: json.dumps(value).encode())
            | st.binary(max_size=6),
        ),
        max_size=5,
    ),
)
FIELDS = (
    SINGLES
    | BATCHES.map(lambda batch: (b"batch", batch))
    | st.binary(max_size=30).map(lambda junk: (b"batch", junk))
)


@given(IDS, FIELDS)
@example("1-0", (b"batch", b"[]"))
@example("1-0", (b"batch", b"[{}]"))
@example("1-0", (b"batch", b'[{"type":"a","type":"b"}]'))
@example("1-0", (b"batch", b'[{"data":\n1}]'))
@example("1-0", (b"batch", b'[{"data":1},{"data":2}] '))
@example("1-0", (b"batch", b'[{"data":1},{"stream":2}]'))
@example("1-0", (b"batch", b'[{"data":"\xff"}]'))
@example("1-0", (b"batch", b'[{"d\\u0061ta":1}]'))
@example("1-0", (b"batch", b"[" * 5000 + b"]" * 5000))
@example("1-0", (b"type", b"a", b"type", b"b", b"data", b"1"))
@example("1-0", (b"type", b"a", b"data", b' {"x": 1}'))
@example("1-0", (b"type", b"a", b"data", b'1,"id":2'))
@example("1-0", ())
def test_every_entry_comes_out_as_it_went_in(entry_id: str, fields: tuple[bytes, ...]) -> None:
    lines = lines_of("jobs", entry_id, fields)
    assert list(entries("jobs", lines)) == [(entry_id, fields)]
    assert list(entries("jobs", [line + b"\n" for line in lines])) == [(entry_id, fields)]
    for line in lines:
        assert b"\n" not in line
        row = json.loads(line)
        assert (row["stream"], row["entry"]) == ("jobs", entry_id)


def rows(*fields: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of("jobs", "1700000000000-7", fields)]


def test_events_have_columns() -> None:
    batch = b'[{"type":"a","source":"s","data":{"n":1}},{"type":"b","source":"s","data":{}}]'
    head = {"stream": "jobs", "entry": "1700000000000-7", "time": "2023-11-14T22:13:20.000Z"}
    assert rows(b"batch", batch) == [
        {**head, "index": 0, "batch": 2, "type": "a", "source": "s", "data": {"n": 1}},
        {**head, "index": 1, "batch": 2, "type": "b", "source": "s", "data": {}},
    ]
    assert rows(b"type", b"a", b"data", b"{}", b"source", b"s") == [
        {**head, "index": 0, "batch": None, "type": "a", "data": {}, "source": "s"}
    ]
    assert rows(b"junk", b"\xff") == [{**head, "fields": ["anVuaw==", "/w=="]}]


WHOLE = lines_of("jobs", "5-0", (b"batch", b'[{"data":1},{"data":2},{"data":3}]'))


@pytest.mark.parametrize(
    "lines",
    [
        WHOLE[:2],
        WHOLE[1:],
        [WHOLE[0], WHOLE[2], WHOLE[1]],
        [WHOLE[0], WHOLE[0], WHOLE[2]],
        [*WHOLE, WHOLE[2]],
        [WHOLE[0].replace(b'"jobs"', b'"work"'), *WHOLE[1:]],
        [WHOLE[0].replace(b".005Z", b".006Z"), *WHOLE[1:]],
        [b""],
        [b"{}"],
        [b"\xff\xfe"],
    ],
)
def test_lines_that_were_not_written_so_are_refused(lines: list[bytes]) -> None:
    with pytest.raises(LineError):
        list(entries("jobs", lines))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_altered_line_passes_for_the_same_entry(place: int, change: int) -> None:
    """Any other byte is another entry, or none."""
    entry = ("5-0", (b"type", b"shop.ordered", b"source", b"shop", b"data", b'{"item":"tea"}'))
    line = bytearray(lines_of("jobs", *entry)[0])
    line[place % len(line)] ^= change
    with suppress(LineError):
        assert list(entries("jobs", bytes(line).split(b"\n"))) != [entry]
