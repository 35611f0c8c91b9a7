"""What providers of a live signal have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import structlog

from carbon_orchestrator.signal.points import Reading, Span, in_order, spans
from carbon_orchestrator.signal.provider import Expected, Kind, Point, SignalError
from carbon_orchestrator.signal.web import WebSource

log = structlog.get_logger(__name__)

DAY_MS = 86_400_000
CALL_TIMEOUT = 120.0  # seconds for all requests of one call
MOST_REQUESTS = 30  # for one call


class Live(ABC):
    """A Provider over a WebSource, by the points of one span of time at a time."""

    window_ms: ClassVar[int]  # what one request may span
    simulated = False
    start: int | None = None
    end: int | None = None

    def __init__(
        self, web: WebSource, *, zone: str, source: str, kind: Kind, resolution_ms: int
    ) -> None:
        self.web = web
        self.zone, self.source, self.kind = zone, source, kind
        self.resolution_ms = resolution_ms

    async def now(self, t: int) -> Point | None:
        """Looks back a day, then `window_ms`."""
        for back in (DAY_MS, self.window_ms):
            if points := await self.history(t - back, t):
                return points[-1]
        return None

    async def history(self, t0: int, t1: int) -> list[Point]:
        if t1 < t0:
            return []
        points = await self._collect(t0, t1)
        return [point for point in in_order(points) if t0 <= point.time <= t1]

    async def _collect(self, t0: int, t1: int) -> list[Point]:
        """Those from t0 to t1, and perhaps some around, in any order."""
        found: list[Point] = []
        # The day before t1 at least, so that frequent calls are answered by one request.
        t0 = max(min(t0, t1 - DAY_MS), 0)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                for span in self._spans(t0, t1):
                    found += await self._points(span)
        except TimeoutError:
            raise SignalError(
                f"{self.web.name}: a history not within {CALL_TIMEOUT:g} s; ask for less"
            ) from None
        return found

    def _spans(self, t0: int, t1: int) -> list[Span]:
        return spans(t0, t1, self.window_ms, MOST_REQUESTS, self.web.name)

    @abstractmethod
    async def _points(self, span: Span) -> list[Point]:
        """Those of `span`, and perhaps some around it."""

    @abstractmethod
    async def forecast(self, t: int) -> list[Expected]: ...

    async def aclose(self) -> None:
        await self.web.aclose()

    def noted(self, parse: Callable[[Any], Reading]) -> Callable[[Any], Reading]:
        """`parse`, with a word in the log about what had to be skipped."""

        def noting(answer: Any) -> Reading:
            reading = parse(answer)
            if reading.skipped:
                log.warning(
                    "impossible values skipped",
                    source=self.source,
                    skipped=reading.skipped,
                    kept=len(reading.points) + len(reading.expected),
                )
            return reading

        return noting
