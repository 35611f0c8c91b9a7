"""How far a job is: what its handler may say, and when it should be done by that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.progress import (
    LONGEST_LINE,
    Lines,
    Progress,
    Report,
    decode,
    encode,
    finish,
    parse,
)


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (b"0.42", Report(0.42)),
        (b"0.42 epoch 3 of 7", Report(0.42, "epoch 3 of 7")),
        (b"  .5\tloading \r", Report(0.5, "loading")),
        (b"42%", Report(0.42)),
        (b"42.5% epoch 3", Report(0.425, "epoch 3")),
        (b"1", Report(1.0)),
        (b"1.0000001 done", Report(1.0, "done")),
        (b"120%", Report(1.0)),
        (b'{"fraction": 0.25, "message": "epoch 1"}', Report(0.25, "epoch 1")),
        (b'{"fraction": -3}', Report(0.0)),
        (b'{"message": "loading", "loss": 0.3}', Report(None, "loading")),
        (b"0.1 a\x1b[31mb\x07", Report(0.1, "a [31mb")),
        (b"0.1 " + b"x" * 500, Report(0.1, "x" * 200)),
    ],
)
def test_what_a_line_may_say(line: bytes, report: Report) -> None:
    assert parse(line) == report


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"epoch 3", b"0.5x", b"-0.5", b"nan", b"12 files left", b"{", b"{}", b'{"a":1}'),
        *(b'{"fraction": "half"}', b'{"message": 3}', b"[0.5]", b"\xff\xfe"),
        b"0.5 " + b"x" * LONGEST_LINE,
        b'{"a":' + b"[" * (LONGEST_LINE - 5),
    ],
)
def test_all_else_is_ignored(line: bytes) -> None:
    assert parse(line) is None


@given(st.binary(max_size=200))
def test_no_line_is_an_error(line: bytes) -> None:
    report = parse(line)
    assert report is None or report.fraction is None or 0 <= report.fraction <= 1


@given(
    st.lists(st.sampled_from([b"0.1", b"0.2 two", b"noise", b"", b"9" * 5000]), max_size=20),
    st.lists(st.integers(1, 700), max_size=30),
)
def test_the_last_report_counts_however_the_lines_come(
    lines: list[bytes], sizes: list[int]
) -> None:
    text = b"".join(line + b"\n" for line in lines)
    reader, latest = Lines(), None
    for size in [*sizes, len(text)]:
        piece, text = text[:size], text[size:]
        latest = reader.feed(piece) or latest
    assert latest == next((found for line in reversed(lines) if (found := parse(line))), None)


def test_what_a_call_may_say() -> None:
    assert Report.of(2, "a\nb") == Report(1.0, "a b")
    assert Report.of(float("nan")) == Report()
    with pytest.raises((TypeError, ValueError)):
        Report.of("half")  # type: ignore[arg-type]


def reported(*reports: tuple[int, float | None]) -> Progress:
    progress = Progress(at=0)
    for at, fraction in reports:
        progress = progress.then(Report(fraction), at)
    assert decode(encode(progress)) == progress
    return progress


def test_a_report_leaves_what_it_does_not_say() -> None:
    progress = Progress(at=0).then(Report(0.5, "loading"), 5).then(Report(None, "x"), 9)
    assert (progress.fraction, progress.message, progress.at) == (0.5, "x", 9)
    assert progress.then(Report(0.6), 10).message == "x"


def test_the_rest_takes_as_long_for_each_share_as_what_was_done() -> None:
    assert finish(reported((100, 0.0), (300, 0.5)), 0, None, False, 310) == 500
    # What came before the first report, such as loading data, says nothing of the pace.
    assert finish(reported((1000, 0.1), (1100, 0.2)), 0, None, False, 1100) == 1900


def test_a_first_report_goes_by_the_start_or_by_what_was_expected() -> None:
    assert finish(reported((100, 0.25)), 0, None, False, 100) == 400
    assert finish(reported((100, 0.75)), 0, None, True, 100) is None
    assert finish(reported((100, 0.75)), 0, 1000, True, 100) == 350


def test_a_resumed_attempt_goes_by_its_own_pace() -> None:
    assert finish(reported((0, 0.8), (100, 0.9)), 0, 50, True, 100) == 200


def test_one_that_begins_anew_is_measured_anew() -> None:
    progress = reported((0, 0.5), (100, 0.9), (200, 0.1), (300, 0.3))
    assert finish(progress, 0, None, False, 300) == 650


def test_without_a_report_it_is_the_expected_length() -> None:
    assert finish(None, 100, None, False, 200) is None
    assert finish(None, 100, 1000, False, 200) == 1100
    assert finish(None, 100, 1000, False, 5000) == 5050
    assert finish(reported((50, None)), 100, 1000, False, 200) == 1100


@pytest.mark.parametrize("fraction", [1e-9, 1e-300, 5e-324])
def test_a_pace_that_leads_nowhere_tells_nothing(fraction: float) -> None:
    assert finish(reported((0, 0.0), (3_600_000, fraction)), 0, None, False, 3_600_000) is None
    assert finish(reported((3_600_000, fraction)), 0, None, False, 3_600_000) is None


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=9),
    st.none() | st.floats(1, 10**6),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_a_finish_is_never_in_the_past(
    reports: list[tuple[int, float]], expected: float | None, resumed: bool, later: int
) -> None:
    progress = reported(*sorted(reports))
    now = progress.at + later
    end = finish(progress, 0, expected, resumed, now)
    assert end is None or end >= now
