"""`signal backfill`: a source's history on the stream, once, whatever the source does meanwhile."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from aiohttp import web
from deployment import Deploy, Deployment
from scripted_source import DAY, HALF, HOUR, Scripted, course, heard, listening, load, said
from sources import Source, neso

from carbon_orchestrator import logs
from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app
from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal import backfill
from carbon_orchestrator.signal.backfill import Backfill
from carbon_orchestrator.signal.naming import parse
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.signal.publishing import SignalRole


@pytest.fixture
def now() -> int:
    return wall_ms() // HALF * HALF


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries as short a wait as a source allows."""

    def waits(first: float, most: float) -> Iterator[float]:
        while True:
            yield 0.001

    monkeypatch.setattr(backfill, "backoff", waits)


@pytest.fixture
def neso_from(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """NESO as it would answer now."""
    monkeypatch.setenv("CARBON_NESO_URL", source.url)
    source.says("/intensity", lambda request: neso(request, wall_ms()))
    return source


async def loaded(
    house: Deployment, spec: str, first: int, last: int | None = None
) -> tuple[int, list[float]]:
    """How many points were published, and the shares done as they were told."""
    shares: list[float] = []
    runtime, provider = Runtime(house.url, house.config), parse(spec, "local")
    try:
        assert await runtime.ready()
        count = await Backfill(runtime, spec, provider).run(first, last, shares.append)
        return count, shares
    finally:
        await provider.aclose()
        await runtime.aclose()


async def test_history_is_loaded_once(deploy: Deploy, neso_from: Source, now: int) -> None:
    house = deploy()
    count, shares = await loaded(house, "neso", now - 20 * DAY, now - DAY)
    events = await said(house)
    assert len(events) == count == 19 * 48 + 1
    assert [event.time for event in events] == list(range(now - 20 * DAY, now - DAY + 1, HALF))
    first = events[0]
    assert (first.source, first.kind, first.estimated) == ("NESO", "average", False)
    assert first.age_ms >= 20 * DAY
    assert not any(event.forecast for event in events)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 3
    assert (await loaded(house, "neso", now - 20 * DAY, now - DAY))[0] == 0
    more, _ = await loaded(house, "neso", now - 21 * DAY, now - DAY + HALF)
    assert more == 48 + 1
    times = Counter(event.time for event in await said(house))
    assert set(times.values()) == {1}
    # It set the clock to what the live signal wants, which therefore finds it as it should be.
    runtime = Runtime(house.url, house.config)
    before = await house.redis.hgetall(house.topology.clock)
    await SignalRole(runtime, "neso").establish_clock()
    assert await house.redis.hgetall(house.topology.clock) == before
    await runtime.aclose()


async def test_a_signal_that_runs_meanwhile_says_nothing_twice(deploy: Deploy, now: int) -> None:
    house = deploy()
    points = course(now - 30 * DAY, now, HALF, 200)
    live = Scripted("A", points)
    listening(house, live)
    count = await load(house, Scripted("A", points))
    await heard(house, "A", now)
    await live.asked_again(1)
    times = Counter(event.time for event in await said(house))
    assert set(times.values()) <= {1, 2}
    # The newest may have been loaded, and then be said again with what is expected next.
    assert [time for time, said in times.items() if said > 1] in ([], [now])
    assert set(times) == {point.time for point in points}
    assert count > 20 * 48


async def test_the_past_of_our_own_forecast_may_be_loaded(deploy: Deploy, now: int) -> None:
    """Every source is dead from the start, but history is there."""
    house = deploy()
    await load(house, Scripted("CSV", course(now - 9 * DAY, now - HOUR, HALF, 300)))
    dead = Scripted("A")
    dead.error = SignalError("A: answered 401; check its key", permanent=True)
    listening(house, dead)
    event = await heard(house, "own forecast", now)
    assert 290 < event.intensity < 320
    assert event.degraded is not None
    assert "answered 401" in event.degraded


async def test_a_deployment_that_plays_a_trace_takes_no_live_history(
    deploy: Deploy, neso_from: Source, now: int
) -> None:
    house = deploy()
    runtime = Runtime(house.url, house.config)
    await SignalRole(runtime, "simulated", speed=600).establish_clock()
    await runtime.aclose()
    with pytest.raises(SignalError, match=r"plays 'simulated x600', where the history of NESO has"):
        await loaded(house, "neso", now - DAY)
    assert neso_from.asked == []
    assert await said(house) == []


async def test_a_recorded_history_waits_for_the_clock_that_it_goes_by(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    with pytest.raises(SignalError, match="start its signal first"):
        await loaded(house, "simulated", now - DAY)
    runtime = Runtime(house.url, house.config)
    await SignalRole(runtime, "simulated", speed=60).establish_clock()
    await runtime.aclose()
    count, _ = await loaded(house, "simulated", now - DAY, now)
    assert count == 49
    assert all(event.simulated for event in await said(house))


async def test_the_future_is_no_history(deploy: Deploy, neso_from: Source, now: int) -> None:
    house = deploy()
    with pytest.raises(SignalError, match="--from lies after --to, or after now"):
        await loaded(house, "neso", now + DAY)
    with pytest.raises(SignalError, match="--from lies after --to, or after now"):
        await loaded(house, "neso", now - DAY, now - 2 * DAY)


async def test_who_asks_to_be_left_alone_is_waited_for(
    deploy: Deploy, neso_from: Source, now: int
) -> None:
    busy = [web.Response(status=429, headers={"Retry-After": "1"}), web.Response(status=503)]

    def answer(request: web.Request) -> Any:
        return busy.pop() if busy else neso(request, wall_ms())

    neso_from.says("/intensity", answer)
    house = deploy()
    began = anyio.current_time()
    count, _ = await loaded(house, "neso", now - 2 * DAY, now - DAY)
    assert count == 49
    assert anyio.current_time() - began >= 1


@pytest.mark.parametrize(
    ("answer", "words", "asked"),
    [
        (lambda: web.Response(status=401), "answered 401", 1),
        (lambda: web.Response(status=429, headers={"Retry-After": "3600"}), "answered 429", 1),
        (lambda: web.Response(text="<html>"), "is not JSON", 5),
    ],
    ids=["401", "429 for an hour", "html"],
)
async def test_a_source_that_gives_up_in_the_middle_takes_nothing_back(
    deploy: Deploy, neso_from: Source, now: int, answer: Any, words: str, asked: int
) -> None:
    begin = now - 20 * DAY
    second, refused = begin + backfill.PAGE_MS, 0

    def until_then(request: web.Request) -> Any:
        nonlocal refused
        if request.path.split("/")[3] < rfc3339(second + HALF)[:16]:
            return neso(request, wall_ms())
        refused += 1
        return answer()

    neso_from.says("/intensity", until_then)
    house = deploy()
    with pytest.raises(SignalError) as fault:
        await loaded(house, "neso", begin, now - DAY)
    message = str(fault.value)
    assert words in message
    assert f"stopped at {rfc3339(second)}: 336 points before it are published" in message
    assert "\n" not in message
    assert len(await said(house)) == 336
    assert refused == asked
    neso_from.says("/intensity", lambda request: neso(request, wall_ms()))
    assert (await loaded(house, "neso", begin, now - DAY))[0] == 19 * 48 + 1 - 336


class Ran(NamedTuple):
    status: int
    out: str
    error: str


async def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """The command line, in a thread, as it runs an event loop of its own."""

    def run() -> int:
        try:
            return told(app, ["signal", "backfill", *arguments])
        except SystemExit as ended:
            return int(ended.code or 0)

    status = await anyio.to_thread.run_sync(run)
    captured = capsys.readouterr()
    return Ran(status, captured.out, captured.err)


async def test_the_command_line(
    deploy: Deploy,
    neso_from: Source,
    now: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    house = deploy()
    config = tmp_path / "carbon.toml"
    config.write_text(f'namespace = "{house.config.namespace}"\nzone = "GB"\n')
    common = ("--redis", house.url, "--config", str(config))
    source = ("--signal", "neso")
    span = ("--from", rfc3339(now - 2 * DAY), "--to", rfc3339(now - DAY))
    program = [sys.executable, "-m", "carbon_orchestrator", "signal", "backfill"]
    done = await anyio.run_process([*program, *common, *source, *span])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"49 points of NESO published for zone GB\n"
    assert {event.zone for event in await said(house)} == {"GB"}
    # In this process from here on, which sets up its logs itself.
    monkeypatch.setattr(logs, "configure", lambda level: None)
    again = await ran(capsys, *common, *source, *span, "--zone", "GB")
    assert again.out == "0 points of NESO published for zone GB\n"
    for arguments, words, status in (
        ((*common, *source, *span, "--zone", "FR"), "the zones are GB", 2),
        ((*common, *source, "--from", "yesterday"), "--from: 'yesterday' is not a time", 2),
        ((*common, *source, "--from", "2999-01-01"), "--from lies after --to, or after now", 2),
        ((*common, *span, "--signal", "oracle"), "no carbon signal named 'oracle'", 2),
        (
            (*common[2:], *source, *span, "--redis", "redis://127.0.0.1:1/0"),
            "carbon-orchestrator up",
            3,
        ),
    ):
        failed = await ran(capsys, *arguments)
        assert failed.status == status
        assert words in failed.error
        assert len(failed.error.splitlines()) == 1
        assert failed.out == ""
    neso_from.says("/intensity", lambda _: web.Response(status=403))
    failed = await ran(capsys, *common, *source, "--from", rfc3339(now - 3 * DAY))
    assert failed.status == 2
    assert "answered 403" in failed.error
    assert "0 points before it are published" in failed.error
    assert len(failed.error.splitlines()) == 1
