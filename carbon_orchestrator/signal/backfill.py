"""Loads a source's history onto the stream, so that bands have a past at once. A signal that is
running learns to forecast from it when it starts next."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.establishing import establish, tells_wall_time, wanted_clock
from carbon_orchestrator.signal.intensity_stream import IntensityStream
from carbon_orchestrator.signal.provider import Point, Provider, SignalError
from carbon_orchestrator.signal.published import Grid
from streams.retry import backoff

log = structlog.get_logger(__name__)

PAGE_MS = 7 * 86_400_000
_CHUNK = 500  # points of one commit
_TRIES = 5  # of a page
_PATIENCE = 120.0  # seconds; who asks to be left alone for longer ends the load
_FOREVER_MS = 1 << 62


class Backfill:
    """Loads `provider`'s points for its zone. Others may publish meanwhile."""

    def __init__(self, runtime: Runtime, spec: str, provider: Provider) -> None:
        """`spec`: how the provider was named. `runtime` must be `ready`."""
        self._runtime, self._spec, self._provider = runtime, spec, provider
        self._stream = IntensityStream(runtime, provider.zone, _FOREVER_MS)

    async def run(self, t0: int, t1: int | None, progress: Callable[[float], None]) -> int:
        """Publish what is not on the stream yet of t0 <= time <= t1 (grid ms, now at most); how
        many points that were. `progress` is told the share done. Raises SignalError, and then
        what has been published so far stays."""
        await self._check_clock()
        now = self._runtime.clock.now()
        t1 = now if t1 is None else min(t1, now)
        if t1 < t0:
            raise SignalError("there is no history to load: --from lies after --to, or after now")
        count = 0
        for start in range(t0, t1 + 1, PAGE_MS):
            end = min(start + PAGE_MS - 1, t1)
            try:
                points = await self._asked(start, end)
            except SignalError as error:
                raise SignalError(
                    f"{error} (stopped at {rfc3339(start)}: {count} points before it are published"
                    " and stay; the same command goes on from there)"
                ) from None
            count += await self._publish(points, now)
            progress((end - t0 + 1) / (t1 - t0 + 1))
        return count

    async def _check_clock(self) -> None:
        """History of a live source needs the clock to tell wall time; if nobody has set the
        clock it is set so."""
        provider, runtime = self._provider, self._runtime
        live = provider.start is None and not provider.simulated
        clock = runtime.clock
        if live and clock.origin_wall and not tells_wall_time(clock):
            raise SignalError(
                f"the deployment plays {clock.signal!r}, where the history of {provider.source}"
                " has no place; load it into a deployment with a live signal"
            )
        if not clock.origin_wall:
            if not live:
                raise SignalError(
                    "the clock of this deployment is not set yet; start its signal first, as a"
                    " recorded history goes by its clock"
                )
            window_ms = milliseconds(runtime.config.threshold.window)
            wanted = wanted_clock(self._spec, provider, None, None, window_ms, wall_ms())
            client, committer = runtime.connect(), runtime.committer()
            runtime.clock = await establish(runtime, client, committer, wanted)

    async def _asked(self, start: int, end: int) -> list[Point]:
        waits = backoff(0.5, 30.0)
        for tries in range(_TRIES):
            try:
                return await self._provider.history(start, end)
            except SignalError as error:
                wait = max(next(waits), error.retry_after or 0.0)
                if error.permanent or tries == _TRIES - 1 or wait > _PATIENCE:
                    raise
                log.warning("asking again", error=str(error), seconds=round(wait, 1))
                await self._runtime.stop.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _publish(self, points: list[Point], now: int) -> int:
        provider, stream, grid = self._provider, self._stream, Grid.of(self._provider)
        count = 0
        while True:
            await stream.read()
            fresh = [point for point in points if stream.published.get(grid, point.time) is None]
            if not fresh:
                return count
            events = [
                IntensityObserved(
                    zone=provider.zone,
                    time=point.time,
                    intensity=point.value,
                    source=provider.source,
                    kind=provider.kind,
                    estimated=point.estimated,
                    simulated=provider.simulated,
                    resolution_ms=provider.resolution_ms,
                    age_ms=max(0, now - point.time),
                )
                for point in fresh[:_CHUNK]
            ]
            if await stream.append(events):
                count += len(events)
