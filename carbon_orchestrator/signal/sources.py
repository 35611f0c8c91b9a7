"""A zone's sources in order of preference: the first that answers speaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import NamedTuple

import structlog

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.signal.breaker import Breaker
from carbon_orchestrator.signal.provider import Point, Provider, SignalError
from streams.retry import backoff

log = structlog.get_logger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.5, 300.0  # seconds between a source's failures
_LONGEST_REASON = 240  # characters of an error that an event repeats
_LONGEST_DEGRADED = 600  # of all of them


class Source:
    """A provider behind a circuit breaker, and what is wrong with it in words."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.breaker = Breaker()
        self.problem: str | None = None
        self._waits = _waits()
        self._since = 0

    def answered(self) -> None:
        if self.breaker.failures:
            log.info("source answers again", source=self.provider.source)
        self.breaker, self._waits = self.breaker.succeeded(), _waits()

    def failed(self, error: SignalError, now: float, at: int) -> None:
        """`now`: seconds for the breaker; `at`: grid ms."""
        if not self.breaker.failures:
            self._since = at
        name = self.provider.source
        reason = "".join(each if each.isprintable() else " " for each in str(error))
        reason = _cut(" ".join(reason.split()).removeprefix(f"{name}: "), _LONGEST_REASON)
        self.problem = f"{name} failing since {rfc3339(self._since)} ({reason})"
        self.breaker = self.breaker.failed(
            now, next(self._waits), retry_after=error.retry_after, permanent=error.permanent
        )
        log.warning(
            "source failed",
            source=self.provider.source,
            error=str(error),
            breaker=self.breaker.state(now),
            again_in=round(self.breaker.until - now, 1),
        )

    def silent(self, newest: Point | None) -> None:
        """It answers, but with nothing that is new enough."""
        name, end = self.provider.source, self.provider.end
        if newest is None:
            problem = f"{name} has nothing"
        elif end is not None and newest.time >= end:
            problem = f"{name} ended at {rfc3339(end)}"
        else:
            problem = f"{name} has nothing after {rfc3339(newest.time)}"
        if problem != self.problem:
            log.warning("source is silent", problem=problem)
        self.problem = problem


def _waits() -> Iterator[float]:
    return backoff(FIRST_WAIT, LONGEST_WAIT)


def _joined(problems: Sequence[str]) -> str:
    return _cut("; ".join(problems), _LONGEST_DEGRADED)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Heard(NamedTuple):
    """What the sources say. `source`: who speaks, None if all are dead; `degraded`: why it is
    not the first one, in words."""

    source: Source | None
    points: list[Point]
    degraded: str | None


class Sources:
    """`silence_ms`: a source whose newest point is older is as good as dead; it is asked on."""

    def __init__(
        self,
        providers: Sequence[Provider],
        silence_ms: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not providers:
            raise ValueError("a zone needs a source")
        self.all = [Source(provider) for provider in providers]
        self.silence_ms = silence_ms
        self._clock = clock
        self._again = inf

    def rank(self, name: str) -> int:
        """The place of the source of that name, 0 for the best; after all others if unknown."""
        names = [each.provider.source for each in self.all]
        return names.index(name) if name in names else len(names)

    def silent_after(self, provider: Provider) -> int:
        """How old its newest point may be, ms."""
        return max(self.silence_ms, 2 * provider.resolution_ms)

    def wait(self) -> float:
        """Seconds until a source that has failed is asked again; infinite if none has. Those
        after the one that spoke last are not asked, so they do not count."""
        return self._again - self._clock()

    async def ask(self, since: Callable[[Provider], int], t: int) -> Heard | None:
        """The points of the best source that answers, from `since` it to `t`, grid ms.

        None while a source is about to be asked again: nobody else speaks for it yet.
        """
        problems: list[str] = []
        self._again = inf
        for source in self.all:
            if source.breaker.allows(self._clock()):
                points = await self._asked(source, since(source.provider), t)
                if points is not None:
                    return Heard(source, points, _joined(problems) or None)
            if source.breaker.failures:
                self._again = min(self._again, source.breaker.until)
                if source.breaker.state(self._clock()) == "closed":
                    return None
            if source.problem is not None:
                problems.append(source.problem)
        return Heard(None, [], _joined(problems))

    async def _asked(self, source: Source, since: int, t: int) -> list[Point] | None:
        provider = source.provider
        try:
            points = await provider.history(since, t)
        except SignalError as error:
            source.failed(error, self._clock(), t)
            return None
        except Exception as error:
            log.exception("source broke", source=provider.source)
            source.failed(SignalError(f"{type(error).__name__}"), self._clock(), t)
            return None
        source.answered()
        newest = points[-1] if points else None
        if newest is None or t - newest.time > self.silent_after(provider):
            source.silent(newest)
            return None
        source.problem = None
        return points

    async def aclose(self) -> None:
        for source in self.all:
            try:
                await source.provider.aclose()
            except Exception:
                log.exception("source not closed", source=source.provider.source)
