"""How far somebody has read: texts and back, and what is found to be gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.gateway.live import server_sent
from carbon_orchestrator.gateway.live.position import (
    BEGIN,
    WHOLE,
    BadPosition,
    Place,
    Position,
    Positions,
    read_after,
)
from carbon_orchestrator.gateway.live.stream_pages import resumed
from streams.event import entry_order

STREAMS = ["jobs", "intensity", "completions"]
_MOST = 2**64 - 1
places = st.one_of(
    st.just(BEGIN),
    st.tuples(
        st.integers(1, _MOST),
        st.integers(0, _MOST),
        st.one_of(st.just(WHOLE), st.integers(0, 10_000)),
    ),
)
positions = st.tuples(places, places, places)


@given(positions)
def test_a_position_survives_its_text(position: Position) -> None:
    texts = Positions(STREAMS)
    text = texts.text(position)
    assert texts.parse(text) == position
    assert text.replace("-", "").replace("_", "").isalnum()
    assert text.isascii()


def test_a_position_is_short() -> None:
    streams = [str(number) for number in range(16)]
    now: Place = (1_790_000_000_000, 3, WHOLE)
    day_ago: Place = (now[0] - 86_400_000, 0, WHOLE)
    assert len(Positions(streams).text((now,) * 8 + (day_ago,) * 8)) < 120


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    texts = Positions(STREAMS)
    try:
        position = texts.parse(text)
    except BadPosition:
        return
    assert position is None or texts.text(position) == text


@given(positions, st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_text_is_refused_or_another_position(
    position: Position, at: int, byte: int
) -> None:
    texts = Positions(STREAMS)
    text = texts.text(position)
    damaged = text[: at % len(text)] + chr(byte) + text[at % len(text) + 1 :]
    try:
        found = texts.parse(damaged)
    except BadPosition:
        return
    assert found is None or texts.text(found) == damaged


def test_there_is_nothing_before_the_first_entry() -> None:
    """Of which the server would be asked by an id that is none."""
    texts = Positions(STREAMS)
    with pytest.raises(BadPosition):
        texts.parse(texts.text(((0, 0, 0), (5, 0, WHOLE), BEGIN)))


def test_a_position_in_other_streams_is_known_to_be_that() -> None:
    position = (BEGIN, BEGIN, (5, 0, WHOLE))
    assert Positions([*STREAMS[:2], "emissions"]).parse(Positions(STREAMS).text(position)) is None
    with pytest.raises(BadPosition):
        Positions(STREAMS).parse(Positions(STREAMS).text(position)[:-2])


@given(st.integers(1, _MOST), st.integers(0, _MOST), st.integers(0, 10))
def test_an_entry_that_was_not_read_to_its_end_is_read_again(
    ms: int, sequence: int, taken: int
) -> None:
    assert entry_order(read_after((ms, sequence, WHOLE))) == (ms, sequence)
    before = entry_order(read_after((ms, sequence, taken)))
    assert before < (ms, sequence)
    assert before in ((ms, sequence - 1), (ms - 1, _MOST))


READ = (50, 0, WHOLE)
HALF = (50, 0, 2)
AT_50 = (50, 0, WHOLE)
AT_40, AT_60, AT_70 = (40, 0, WHOLE), (60, 0, WHOLE), (70, 0, WHOLE)


@pytest.mark.parametrize(
    ("place", "first", "newest", "archived", "on"),
    [
        (BEGIN, BEGIN, BEGIN, BEGIN, None),  # nothing was ever there
        (BEGIN, AT_50, AT_60, BEGIN, None),  # all of it is new
        (BEGIN, AT_60, AT_70, AT_50, (60, 0, 0)),
        (READ, AT_50, AT_60, BEGIN, None),  # still there
        (READ, AT_50, AT_60, AT_60, None),  # archived, but not trimmed
        (HALF, AT_50, AT_60, BEGIN, None),
        (READ, AT_60, AT_70, AT_50, None),  # trimmed up to here, and no further
        (READ, BEGIN, BEGIN, AT_50, None),
        (HALF, AT_60, AT_70, AT_50, (60, 0, 0)),  # the rest of its entry is gone
        (READ, AT_70, AT_70, AT_60, (70, 0, 0)),
        (READ, BEGIN, BEGIN, AT_60, AT_60),
        (READ, AT_60, AT_70, BEGIN, (60, 0, 0)),  # removed by hand
        (READ, BEGIN, AT_40, BEGIN, AT_40),  # the server came back with less
        (READ, BEGIN, BEGIN, BEGIN, BEGIN),  # with nothing
    ],
)
def test_what_is_gone(
    place: Place, first: Place, newest: Place, archived: Place, on: Place | None
) -> None:
    assert resumed(place, first, newest, archived) == on
    if on is not None:
        # From there on, nothing is found to be gone: whoever was told is not told again.
        again = first if first >= on else (newest if newest == on else BEGIN)
        assert resumed(on, again, newest, archived) is None


@given(st.text(alphabet=st.sampled_from('ab{}"\n\r: \u2028é'), max_size=40))
def test_data_with_line_ends_is_told_in_lines(data: str) -> None:
    frame = server_sent.event("kind", data).decode()
    kind, *lines = frame.removesuffix("\n\n").split("\n")
    assert kind == "event: kind"
    assert frame.endswith("\n\n")
    assert "\n\n" not in frame[:-2]
    assert all(line.startswith("data: ") and "\r" not in line for line in lines)
    said = "\n".join(line[len("data: ") :] for line in lines)
    assert said == data.replace("\r\n", "\n").replace("\r", "\n")
