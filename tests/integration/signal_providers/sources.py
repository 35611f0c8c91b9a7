"""The test's sources: one that behaves, one that breaks; documented answers of each provider."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from aiohttp import web

from carbon_orchestrator.signal.electricity_maps import ElectricityMaps
from carbon_orchestrator.signal.energy_charts import EnergyCharts
from carbon_orchestrator.signal.live import Live
from carbon_orchestrator.signal.neso import Neso
from carbon_orchestrator.signal.points import iso
from carbon_orchestrator.signal.watttime import WattTime

HOUR = 3_600_000
DAY = 24 * HOUR
T = round(datetime(2026, 7, 12, 12, 10, tzinfo=UTC).timestamp() * 1000)  # the tests' now
BEARER = "eyJ0eXAiOiJKV1QifQ.token"
SECRETS = {
    "ELECTRICITYMAPS_TOKEN": "em-secret-token",
    "WATTTIME_USERNAME": "ada",
    "WATTTIME_PASSWORD": "wt-secret-password",
}
PROVIDERS: dict[str, Callable[[str], Live]] = {
    "neso": lambda url: Neso(zone="GB", base=url),
    "neso:13": lambda url: Neso("13", zone="GB-London", base=url),
    "energy-charts": lambda url: EnergyCharts("de", zone="DE", base=url),
    "electricitymaps": lambda url: ElectricityMaps("DE", zone="DE", base=url),
    "watttime": lambda url: WattTime("CAISO_NORTH", zone="CA", base=url),
}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Source:
    """Answers by the start of the path, the longest that fits: JSON, a Response, or a function
    of the request. Keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[web.Request] = []
        self._answers: dict[str, Any] = {"": web.HTTPNotFound}
        self.says("/login", {"token": BEARER})

    def says(self, path: str, answer: Any) -> None:
        self._answers[path] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        path = max((p for p in self._answers if request.path.startswith(p)), key=len)
        answer = self._answers[path]
        if callable(answer):
            answer = answer(request) if not isinstance(answer, type) else answer()
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, web.HTTPException):
            raise answer
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    def paths(self, start: str = "/") -> list[str]:
        return [each.path for each in self.asked if each.path.startswith(start)]


class Broken:
    """Logs in whoever asks; else sends `content`, and then does as `then` says."""

    def __init__(self, content: bytes, then: str) -> None:
        self.content, self.then = content, then
        self.url = ""
        self.over = asyncio.Event()
        self.met = 0
        self._serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.met += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET /login"):
            body = b'{"token": "%s"}' % BEARER.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            return
        writer.write(self.content)
        await writer.drain()
        if self.then == "half-close":
            writer.write_eof()
        if self.then in ("half-close", "hang"):
            await self.over.wait()
        if self.then == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        while self.then == "drip" and not self.over.is_set():
            writer.write(b" ")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), 0.02)

    async def idle(self) -> None:
        while self._serving:
            await asyncio.wait(self._serving)


def steps(first: int, last: int, step: int) -> range:
    """The times from `first` to `last`, on the step."""
    return range(first + -first % step, last + 1, step)


def times_asked(request: web.Request) -> tuple[int, int]:
    """From and to in a request's parameters, ms."""
    return stamp(request.query["start"]), stamp(request.query["end"])


def stamp(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def neso(request: web.Request, now: int = T, *, regional: bool = False) -> Any:
    """As the API: with the half hour that ends at `from`; no actual in the last two hours."""
    parts = request.path.split("/")
    start_text, end_text = parts[3:5] if regional else parts[2:4]
    start = stamp(start_text)
    end = start + 2 * DAY if end_text == "fw48h" else stamp(end_text)
    assert end - start <= 14 * DAY
    rows = []
    for time in steps(start - HOUR // 2, end - 1, HOUR // 2):
        values: dict[str, Any] = {"forecast": 200 + time // HOUR % 24, "index": "moderate"}
        if not regional:
            values["actual"] = 100 + time // HOUR % 24 if time < now - 2 * HOUR else None
        rows.append({"from": iso(time), "to": iso(time + HOUR // 2), "intensity": values})
    return {"data": {"regionid": 13, "shortname": "London", "data": rows} if regional else rows}


def energy_charts(request: web.Request, now: int = T) -> Any:
    """Measured until half an hour ago, forecast for a day; one quarter of an hour is missing."""
    assert request.query["country"] == "de"
    start, end = times_asked(request)
    times = [
        time for time in steps(start, min(end, now + DAY), HOUR // 4) if time % DAY != 3 * HOUR
    ]
    known = now - HOUR // 2
    return {
        "unix_seconds": [time // 1000 for time in times],
        "co2eq": [300.5 + time // HOUR % 24 if time <= known else None for time in times],
        "co2eq_forecast": [400.5 + time // HOUR % 24 if time > known else None for time in times],
        "deprecated": False,
    }


def electricity_maps(request: web.Request, now: int = T) -> Any:
    """A row an hour; estimated in the last three hours."""
    assert request.headers["auth-token"] == SECRETS["ELECTRICITYMAPS_TOKEN"]
    assert request.query["zone"] == "DE"
    current = now - now % HOUR

    def row(time: int) -> dict[str, Any]:
        return {
            "zone": "DE",
            "carbonIntensity": 300 + time // HOUR % 24,
            "datetime": datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds"),
            "updatedAt": "2026-07-12T11:48:27.926Z",
            "emissionFactorType": "lifecycle",
            "isEstimated": time > current - 3 * HOUR,
            "estimationMethod": "TIME_SLICER_AVERAGE",
        }

    match request.path.rpartition("/")[2]:
        case "latest":
            return row(current)
        case "history":
            return {
                "zone": "DE",
                "history": [row(current - back * HOUR) for back in range(24, 0, -1)],
            }
        case "past-range":
            start, end = times_asked(request)
            assert end - start <= 10 * DAY
            return {"zone": "DE", "data": [row(time) for time in steps(start, end - 1, HOUR)]}
    forecast = [row(current + hour * HOUR) for hour in range(25)]
    return {"zone": "DE", "updatedAt": "2026-07-12T11:48:27.926Z", "forecast": forecast}


def watttime(request: web.Request, now: int = T) -> Any:
    """A value each five minutes, 1000 lbs/MWh and a bit."""
    if request.headers.get("Authorization") != f"Bearer {BEARER}":
        return web.json_response({"error": "invalid token"}, status=401)
    assert request.query["region"] == "CAISO_NORTH"
    if request.path == "/v3/forecast":
        times = steps(now, now + int(request.query["horizon_hours"]) * HOUR, HOUR // 12)
    else:
        start, end = times_asked(request)
        assert end - start <= 32 * DAY
        times = steps(start, min(end, now - 300_000), HOUR // 12)
    return {
        "data": [
            {"point_time": datetime.fromtimestamp(time / 1000, UTC).isoformat(), "value": 1000.0}
            for time in times
        ],
        "meta": {
            "data_point_period_seconds": 300,
            "region": "CAISO_NORTH",
            "warnings": [],
            "signal_type": request.query["signal_type"],
            "model": {"date": "2023-03-01"},
            "units": "lbs_co2_per_mwh",
            "generated_at": "2026-07-12T12:00:00+00:00",
        },
    }


def behave(source: Source, now: int = T) -> None:
    """`source` answers for all providers, as it were at `now`."""
    source.says("/intensity", lambda request: neso(request, now))
    source.says("/regional", lambda request: neso(request, now, regional=True))
    source.says("/co2eq", lambda request: energy_charts(request, now))
    source.says("/v3/carbon-intensity", lambda request: electricity_maps(request, now))
    for endpoint in ("historical", "forecast"):
        source.says(f"/v3/{endpoint}", lambda request: watttime(request, now))


def fail(source: Source, answer: Any) -> None:
    """`source` gives `answer` to all data requests; logins work."""
    for path in ("/intensity", "/regional", "/co2eq", "/v3"):
        source.says(path, answer)
