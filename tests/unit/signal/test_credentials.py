"""Keys: where they come from, and that they do not show."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.signal.credentials import HIDDEN, Secret, credential
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.signal.watttime import basic
from carbon_orchestrator.signal.web import LONGEST_QUIET, SHORTEST_QUIET, one_line, retry_after

VALUE = "s3cr3t-value"


def test_a_secret_does_not_show() -> None:
    secret = Secret(VALUE)
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>20}",
        str({"key": [secret]}),
    ):
        assert VALUE not in shown
        assert HIDDEN in shown
    assert secret.reveal() == VALUE
    assert secret == Secret(VALUE) != Secret("other")
    assert len({secret, Secret(VALUE)}) == 1
    for copies in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copies(secret)


def test_from_the_environment_or_a_file_that_may_change(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{VALUE}\n")
    environment = {"KEY_FILE": str(file)}
    assert credential("KEY", environment).reveal() == VALUE
    file.write_text("rotated")
    assert credential("KEY", environment).reveal() == "rotated"
    assert credential("KEY", environment | {"KEY": "first"}).reveal() == "first"
    assert credential("KEY", environment | {"KEY": ""}).reveal() == "rotated"


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"one\ntwo", b"a\x00b", b"\xff\xfe", b"x" * 20_000]
)
def test_an_unusable_key_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(SignalError, match="no usable key") as error:
        credential("KEY", {"KEY_FILE": str(file)})
    assert error.value.permanent
    assert "KEY_FILE" in str(error.value)
    assert "two" not in str(error.value)


def test_what_to_do_where_there_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="set KEY, or KEY_FILE to a file") as error:
        credential("KEY", {})
    assert error.value.permanent
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SignalError, match=r"KEY_FILE: .* cannot be read"):
            credential("KEY", {"KEY_FILE": str(path)})


def test_all_parts_of_a_login_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTTIME_USERNAME", "Aladdin")
    monkeypatch.setenv("WATTTIME_PASSWORD", "open sesame")
    header = basic()
    assert header.reveal() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617, section 2
    text = "open sesame? QWxhZGRpbjpvcGVuIHNlc2FtZQ== Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert one_line(text, [header]) == f"{HIDDEN}? {HIDDEN} {HIDDEN}"


@given(st.text())
def test_one_line_is_one_short_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 160
    assert line.isprintable()


WALL = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2015 07:30:00 GMT", 120.0),
        ("Wed, 21 Oct 2015 07:30:00 -0000", 120.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", SHORTEST_QUIET),
        ("Wed, 21 Oct 9999 07:00:00 GMT", LONGEST_QUIET),
        ("-5", SHORTEST_QUIET),
        ("0", SHORTEST_QUIET),
        ("999999999999", LONGEST_QUIET),
        ("inf", LONGEST_QUIET),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, WALL) == seconds


@given(st.text())
def test_any_retry_after_is_within_bounds(text: str) -> None:
    seconds = retry_after(text, WALL)
    assert seconds is None or SHORTEST_QUIET <= seconds <= LONGEST_QUIET
