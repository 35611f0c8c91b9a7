"""What is logged tells no secret."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from carbon_orchestrator import logs
from carbon_orchestrator.gateway.door.keys import new_id, new_secret, text_of
from carbon_orchestrator.redaction import REDACTED, redact, text

CANARY = "canary-5f3a"


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "line",
    [
        f"cannot reach redis://worker:{CANARY}@host:6379/0",
        f"rediss://:{CANARY}@host?ssl_password={CANARY}&db=1",
        f"redis://u:{CANARY}@{CANARY}@host",
        f"Authorization: Bearer {CANARY}",
        f"{{'api_key': '{CANARY}', 'zone': 'DE'}}",
        f"https://api.example/v1?token={CANARY}&zone=DE",
        f'password: "{CANARY}"',
    ],
)
def test_secrets_in_texts(line: str) -> None:
    assert CANARY not in text(line)
    assert REDACTED in text(line)


def test_long_texts_take_no_time() -> None:
    began = time.process_time()
    for part in ("a.", "a", "x://", "token='", "Bearer ", "co_"):
        text(part * 20_000)
    assert time.process_time() - began < 2


def test_an_api_key_of_ours() -> None:
    key = text_of(new_id(), new_secret())
    assert text(f"denied: {key}, at once") == f"denied: {REDACTED}, at once"


@pytest.mark.parametrize(
    "line",
    [
        "job 01m8 failed: exit code 1",
        "redis://127.0.0.1:6379/0 and mail to ada@example.org",
        "https://example.org/a@b",
        "3 tokens a second",
    ],
)
def test_other_texts_stay(line: str) -> None:
    assert text(line) == line


@pytest.mark.parametrize(
    "name", ["password", "API_KEY", "x-api-key", "auth_token", "Authorization"]
)
def test_secrets_by_their_name_at_any_depth(name: str) -> None:
    event: dict[str, Any] = {"event": "x", "headers": [{name: CANARY, "n": 1}], name: CANARY}
    assert CANARY not in str(redact(None, "info", event))
    assert redact(None, "info", {"event": "x", "token_count": 3}) == {
        "event": "x",
        "token_count": 3,
    }


def nested() -> dict[str, Any]:
    value: dict[str, Any] = {"end": CANARY}
    for _ in range(100):
        value = {"in": value}
    return value


def test_what_is_too_deep_is_left_out() -> None:
    assert CANARY not in str(redact(None, "info", {"event": "x", "value": nested()}))


class Opaque:
    def __repr__(self) -> str:
        return f"Client(redis://u:{CANARY}@h)"


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_of_it_reaches_the_log(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure("info", json=as_json)
    log = structlog.get_logger("test")

    def broken(payload: str) -> None:  # the value of a local, as payloads are
        secret = payload.upper()
        raise ValueError(f"no answer from redis://u:{CANARY}@h ({len(secret)})")

    try:
        broken(CANARY)
    except ValueError:
        log.exception("it broke", client=Opaque(), url=f"redis://u:{CANARY}@h", password=CANARY)
    line = capsys.readouterr().err
    assert "it broke" in line
    assert "ValueError" in line
    assert CANARY not in line
    assert CANARY.upper() not in line
    if as_json:
        assert json.loads(line)["password"] == REDACTED
