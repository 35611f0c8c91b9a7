"""A source in this process that says what a test tells it to, and zones that listen to such."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio
import pytest
from deployment import Deployment, Part

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal import sources, zone
from carbon_orchestrator.signal.backfill import Backfill
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.provider import Expected, Kind, Point, SignalError
from carbon_orchestrator.signal.zone import ZoneSignal
from streams.event import Message
from streams.testing import until

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
HALF = 30 * MINUTE
DEAD = SignalError("it: cannot be reached: no route to it; it is asked again later")


class Scripted:
    """A live source. `error`: what it fails with; `slow`: it does not answer until then."""

    start: int | None = None
    end: int | None = None

    def __init__(
        self,
        source: str,
        points: Iterable[Point] = (),
        *,
        kind: Kind = "average",
        simulated: bool = False,
        resolution_ms: int = HALF,
        of: str = "local",
    ) -> None:
        self.source, self.kind, self.simulated, self.zone = source, kind, simulated, of
        self.resolution_ms = resolution_ms
        self.points = list(points)
        self.ahead: list[Expected] = []
        self.error: Exception | None = None
        self.slow: anyio.Event | None = None
        self.asked = 0
        self.closed = False

    async def now(self, t: int) -> Point | None:
        raise NotImplementedError

    async def history(self, t0: int, t1: int) -> list[Point]:
        self.asked += 1
        if self.slow is not None:
            await self.slow.wait()
        if self.error is not None:
            raise self.error
        return [point for point in self.points if t0 <= point.time <= t1]

    async def forecast(self, t: int) -> list[Expected]:
        return [each for each in self.ahead if each.time > t]

    async def aclose(self) -> None:
        self.closed = True

    async def asked_again(self, times: int = 3) -> None:
        """Wait until it has been asked so often from now on: the role has then done, in full,
        what there was to do."""
        enough = self.asked + times
        await until(lambda: self.asked >= enough, 10)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sources be asked, and asked again, without long waits."""
    monkeypatch.setattr(zone, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(zone, "LONGEST_SLEEP", 0.05)
    monkeypatch.setattr(sources, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sources, "LONGEST_WAIT", 0.03)


def course(first: int, last: int, step: int, value: float) -> list[Point]:
    """A point every `step` from `first` to `last`; every other one is higher by 10."""
    return [
        Point(time, value + 10 * (number % 2))
        for number, time in enumerate(range(first, last + 1, step))
    ]


def listening(house: Deployment, *scripted: Scripted, of: str = "local") -> Part:
    """The signal of a zone, in a task of its own."""
    return house._part(lambda runtime: ZoneSignal(runtime, of, scripted))


async def load(house: Deployment, source: Scripted) -> int:
    """Backfill all that it has; how many points that were."""
    runtime = Runtime(house.url, house.config)
    try:
        assert await runtime.ready()
        first, last = source.points[0].time, source.points[-1].time
        return await Backfill(runtime, "scripted", source).run(first, last, lambda share: None)
    finally:
        await runtime.aclose()


async def said(house: Deployment, source: str | None = None) -> list[IntensityObserved]:
    """The intensity events, all or those of one source, in stream order."""
    events: Sequence[IntensityObserved] = await house.events(house.topology.intensity)
    return [each for each in events if source in (None, each.source)]


async def heard(
    house: Deployment, source: str, time: int | None = None, *, more: int = 0
) -> IntensityObserved:
    """Wait for an event of that source, of that time, after the first `more` events of all."""

    async def there() -> IntensityObserved | None:
        for event in (await said(house))[more:]:
            if event.source == source and time in (None, event.time):
                return event
        return None

    found = await until(there, 10)
    assert found is not None
    return found


async def grid(house: Deployment) -> Intensities:
    """What router and workers know from the stream."""
    known = Intensities("local", Bands.of(house.config.threshold))
    for number, event in enumerate(await said(house)):
        known.apply(Message(f"{number + 1}-0", 0, event))
    return known
