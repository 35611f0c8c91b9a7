"""Each provider against a source that does what real ones do on bad days."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from aiohttp import web
from sources import BEARER, PROVIDERS, SECRETS, Broken, Clock, Source, T, behave, fail
from structlog.testing import capture_logs

from carbon_orchestrator.signal.live import Live
from carbon_orchestrator.signal.provider import Provider, SignalError
from carbon_orchestrator.signal.web import LARGEST, LONGEST_QUIET

DAY = 86_400_000
HIDDEN = [
    SECRETS["ELECTRICITYMAPS_TOKEN"],
    SECRETS["WATTTIME_PASSWORD"],
    BEARER,
    "YWRhOnd0LXNlY3JldC1wYXNzd29yZA==",  # ada:wt-secret-password
]
Opened = Callable[[Any], Any]
Breaking = Callable[[bytes, str], Awaitable[Broken]]


@pytest.fixture(params=PROVIDERS)
def make(request: pytest.FixtureRequest, opened: Opened) -> Callable[[str], Live]:
    def made(url: str) -> Live:
        provider: Live = opened(PROVIDERS[request.param](url))
        return provider

    return made


async def failure(provider: Provider) -> SignalError:
    """What all three questions fail with; it is one line that names the source, and no key."""
    with capture_logs() as logs, pytest.raises(SignalError) as first:
        await provider.now(T)
    with capture_logs() as more, pytest.raises(SignalError):
        await provider.history(T - DAY, T)
    said = f"{first.value!s} {first.value!r} {logs} {more}"
    assert not [each for each in HIDDEN if each in said]
    message = str(first.value)
    assert "\n" not in message
    assert message.startswith(provider.source.partition(" co2")[0])
    assert "; " in message  # what is wrong; what to do
    return first.value


async def test_answers_as_documented_are_understood(
    make: Callable[[str], Live], source: Source
) -> None:
    behave(source)
    provider = make(source.url)
    point = await provider.now(T)
    assert point is not None
    assert T - 2 * provider.resolution_ms <= point.time <= T
    history = await provider.history(T - DAY // 2, T)
    times = [each.time for each in history]
    assert times == sorted(set(times))
    assert T - DAY // 2 <= times[0] < T - DAY // 2 + provider.resolution_ms
    assert history[-1] == point
    forecast = await provider.forecast(T)
    assert [each.time for each in forecast] == sorted({each.time for each in forecast})
    assert T < forecast[0].time <= T + provider.resolution_ms
    assert forecast[-1].time >= T + DAY - 3_600_000
    assert (provider.simulated, provider.start, provider.end) == (False, None, None)
    assert await provider.history(T, T - 1) == []


@pytest.mark.parametrize("status", [401, 403])
async def test_refused(make: Callable[[str], Live], source: Source, status: int) -> None:
    def echo(request: web.Request) -> web.Response:
        sent = [request.headers.get(name, "-") for name in ("auth-token", "Authorization")]
        error = {"error": {"code": f"{status}", "message": f"no: {sent}\nX"}}
        return web.json_response(error, status=status)

    fail(source, echo)
    error = await failure(make(source.url))
    assert error.permanent
    assert f"answered {status} (no: " in str(error)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_unknown(make: Callable[[str], Live], source: Source, status: int) -> None:
    fail(source, lambda _: web.json_response({"detail": "not found"}, status=status))
    error = await failure(make(source.url))
    assert error.permanent
    assert "(not found)" in str(error)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (lambda: "120", 119, 120),
        (lambda: time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 90)), 80, 91),
        (lambda: "-3", 0.9, 1),
        (lambda: "99999999999", LONGEST_QUIET - 1, LONGEST_QUIET),
        (lambda: None, 59, 60),
    ],
)
async def test_too_many_requests_is_heeded(
    make: Callable[[str], Live],
    source: Source,
    header: Callable[[], str | None],
    least: float,
    most: float,
) -> None:
    text = header()
    headers = {"Retry-After": text} if text else {}
    fail(source, lambda _: web.Response(status=429, headers=headers))
    provider = make(source.url)
    clock = provider.web.clock = Clock()
    error = await failure(provider)
    assert not error.permanent
    assert error.retry_after is not None
    assert least <= error.retry_after <= most
    asked = len(source.asked)
    behave(source)
    with pytest.raises(SignalError, match="left alone") as quiet:
        await provider.forecast(T)
    assert quiet.value.retry_after is not None
    assert len(source.asked) == asked
    clock.seconds += error.retry_after + 0.1
    assert await provider.now(T)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_server_errors_pass(make: Callable[[str], Live], source: Source, status: int) -> None:
    fail(source, lambda _: web.Response(status=status, text="<html>Bad Gateway</html>"))
    provider = make(source.url)
    error = await failure(provider)
    assert (error.permanent, error.retry_after) == (False, None)
    assert f"answered {status};" in str(error)
    behave(source)
    assert await provider.now(T)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda _: web.Response(text="<html>Log in</html>", content_type="text/html"), "text/html"),
        (lambda _: web.Response(text='{"data": [', content_type="application/json"), "not JSON"),
        (lambda _: web.Response(body=b"\xff\xfe\x00"), "not JSON"),
        (lambda _: web.Response(text="[" * 100_000), "not JSON"),
        (lambda _: web.Response(text=f"[{'9' * 5000}]"), "not JSON"),
        (lambda _: web.Response(text=""), "is empty"),
        (lambda _: web.json_response(None), "format may have changed"),
        (lambda _: web.json_response([1, 2]), "format may have changed"),
        (lambda _: web.json_response({"data": "none", "zone": "DE", "meta": {}}), "changed"),
        (lambda _: web.Response(body=b" " * (LARGEST + 1)), "larger than 8 MiB"),
        (lambda _: web.HTTPFound("https://login.example/x?y"), "redirects to https://login.exampl"),
        (lambda request: web.HTTPFound(request.path), "redirects without end"),
        (lambda _: web.Response(status=302), "redirects without end"),
    ],
)  # fmt: skip
async def test_something_else_than_the_answer(
    make: Callable[[str], Live], source: Source, response: Any, message: str
) -> None:
    fail(source, response)
    error = await failure(make(source.url))
    assert message in str(error)
    assert error.retry_after is None


async def test_a_zipped_bomb_is_not_read_to_its_end(
    make: Callable[[str], Live], source: Source
) -> None:
    def bomb(_: web.Request) -> web.Response:
        response = web.Response(body=b" " * (4 * LARGEST))
        response.enable_compression()
        return response

    fail(source, bomb)
    assert "larger than 8 MiB" in str(await failure(make(source.url)))


async def test_a_redirect_on_the_same_host_is_followed(
    make: Callable[[str], Live], source: Source
) -> None:
    behave(source)
    source.says("/old", lambda request: web.HTTPFound(request.path_qs.removeprefix("/old")))
    provider = make(f"{source.url}/old")
    assert await provider.now(T)
    assert await provider.forecast(T)


async def test_no_other_host_gets_a_request_let_alone_a_key(
    make: Callable[[str], Live], source: Source, broken: Breaking
) -> None:
    other = await broken(b"", "close")
    fail(source, lambda request: web.HTTPTemporaryRedirect(f"{other.url}{request.path_qs}"))
    assert f"redirects to {other.url}" in str(await failure(make(source.url)))
    assert other.met == 0


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("content", "then"),
    [
        (HEAD + b"Content-Length: 5000\r\n\r\n" + b'{"data": [', "close"),
        (HEAD + b"Content-Length: 5000\r\n\r\n" + b'{"data": [', "half-close"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b'a\r\n{"data": [\r\n', "half-close"),
        (HEAD + b"Content-Length: 5000\r\n\r\n" + b'{"data": [', "reset"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"zz\r\n", "close"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", "close"),
        (HEAD + b"X: " + b"x" * 20_000, "close"),
        (b"", "close"),
        (b"", "half-close"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "close"),
    ],
)
async def test_connections_that_break(
    make: Callable[[str], Live], broken: Breaking, content: bytes, then: str
) -> None:
    server = await broken(content, then)
    error = await failure(make(server.url))
    assert not error.permanent
    assert "asked again later" in str(error)


@pytest.mark.parametrize(
    ("content", "then"),
    [
        (b"", "hang"),
        (HEAD, "hang"),
        (HEAD + b"Content-Length: 5000\r\n\r\n{", "hang"),
        (HEAD + b"Content-Length: 5000\r\n\r\n", "drip"),
    ],
)
async def test_slow_sources_are_given_up(
    make: Callable[[str], Live], broken: Breaking, content: bytes, then: str
) -> None:
    server = await broken(content, then)
    provider = make(server.url)
    provider.web.timeout = 0.2
    async with asyncio.timeout(5):
        error = await failure(provider)
    assert "within 0.2 s" in str(error)
    assert not error.permanent


async def test_nobody_listens(make: Callable[[str], Live], broken: Breaking) -> None:
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    error = await failure(make(f"http://127.0.0.1:{port}"))
    assert "cannot be reached" in str(error)
    assert not error.permanent


async def test_a_cancelled_question_ends_at_once_and_the_next_one_works(
    make: Callable[[str], Live], source: Source
) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        asked.set()
        await never.wait()
        return web.Response()

    fail(source, hang)
    provider = make(source.url)
    question = asyncio.create_task(provider.now(T))
    await asyncio.wait_for(asked.wait(), 5)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(question, 5)
    never.set()
    behave(source)
    assert await asyncio.wait_for(provider.now(T), 5)


async def test_frequent_calls_share_requests_and_a_revised_value_comes_later(
    make: Callable[[str], Live], source: Source
) -> None:
    behave(source)
    provider = make(source.url)
    clock = provider.web.clock = Clock()
    await asyncio.gather(*(provider.forecast(T) for _ in range(20)))
    assert len([path for path in source.paths() if path != "/login"]) == 1
    before = await provider.history(T - DAY // 2, T)
    asked = len(source.asked)
    for _ in range(3):
        await asyncio.gather(provider.now(T), provider.history(T - 1000, T), provider.forecast(T))
    assert len(source.asked) <= asked + 2
    asked = len(source.asked)
    behave(source, T + DAY // 8)  # by then measured
    clock.seconds += 1000
    after = await provider.history(T - DAY // 2, T)
    assert len(source.asked) > asked
    assert len(after) >= len(before)
    assert sum(point.estimated for point in after) <= sum(point.estimated for point in before)


async def test_no_key_in_a_traceback_with_its_local_variables(
    make: Callable[[str], Live], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs of unexpected errors show the variables of all frames, aiohttp's too."""
    out = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(default=repr),
        ],
    )
    for answer in (lambda _: web.Response(status=401), lambda _: web.Response(text="x")):
        fail(source, answer)
        provider = make(source.url)
        try:
            await provider.now(T)
        except SignalError:
            logger.exception("failed")
    await provider.aclose()

    def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("aiohttp.TCPConnector._create_connection", surprise)
    with pytest.raises(SignalError, match="surprise"):
        await provider.now(T)
    try:
        await provider.now(T)
    except SignalError:
        logger.exception("failed")
    text = out.getvalue()
    assert json.loads(text.splitlines()[-1])["exception"][0]["frames"][0]["locals"]
    assert not [each for each in HIDDEN if each in text]
