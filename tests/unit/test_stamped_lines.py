"""A container's log, asked for again where it broke off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.kubernetes.pod_log import StampedLines

HOUR = "2026-10-25T0{}:30:00.{:09}{}"


def stamped(*texts: str, first: int = 0) -> bytes:
    lines = (f"{HOUR.format(1, first + n, 'Z')} {text}\n" for n, text in enumerate(texts))
    return "".join(lines).encode()


def test_times_are_taken_off() -> None:
    lines = StampedLines()
    assert lines.feed(stamped("one", "", "two  words")) == b"one\n\ntwo  words\n"


def test_a_line_without_an_end_comes_last() -> None:
    lines = StampedLines()
    assert lines.feed(stamped("one") + stamped("two", first=1)[:-1]) == b"one\n"
    assert lines.finish() == b"two"
    assert lines.finish() == b""


def test_what_is_known_is_passed_over_and_what_broke_off_comes_whole() -> None:
    lines = StampedLines()
    log = stamped("one", "two", "three")
    assert lines.feed(log[:-3]) == b"one\ntwo\n"
    lines.resume()
    assert lines.feed(log) == b"three\n"
    lines.resume()
    assert lines.feed(log) == b""


def test_zeros_that_are_left_out_and_local_times() -> None:
    lines = StampedLines()
    assert lines.feed(b"2026-10-25T02:59:59.5+02:00 a\n") == b"a\n"
    lines.resume()
    known = b"2026-10-25T02:59:59.500000000+02:00 a\n"
    # The node's clock is set back an hour at the end of summer; time goes on.
    later = b"2026-10-25T02:00:00.000000001+01:00 b\n"
    assert lines.feed(known + later) == b"b\n"


def test_what_has_no_time_is_passed_on() -> None:
    lines = StampedLines()
    lines.feed(stamped("one"))
    lines.resume()
    assert lines.feed(b"unable to retrieve logs\n" + stamped("one", "two")) == (
        b"unable to retrieve logs\ntwo\n"
    )


@given(st.lists(st.text(max_size=5), max_size=20), st.lists(st.integers(0, 500), max_size=5))
def test_wherever_it_breaks_off_every_line_comes_once(texts: list[str], breaks: list[int]) -> None:
    texts = [text.replace("\n", "") for text in texts]
    log = stamped(*texts)
    lines, got = StampedLines(), b""
    for place in sorted(breaks):
        got += lines.feed(log[:place])
        lines.resume()
    got += lines.feed(log)
    assert got == "".join(f"{text}\n" for text in texts).encode()
