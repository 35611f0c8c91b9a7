"""One zone's signal: asks its sources, publishes what is new or revised, each point once."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Sequence

import anyio
import structlog

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.ahead import NOTHING, Ahead, Expectation, step_for
from carbon_orchestrator.signal.intensity_stream import IntensityStream
from carbon_orchestrator.signal.provider import Expected, Point, Provider, SignalError
from carbon_orchestrator.signal.published import OWN, Grid
from carbon_orchestrator.signal.sources import Heard, Sources
from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff

log = structlog.get_logger(__name__)

DAY_MS = 86_400_000
POLL_SECONDS = 60.0  # between two questions to a live source
REVISED_MS = DAY_MS  # how far back a source is asked for revised values
FURTHEST_BACK_MS = 14 * DAY_MS  # of what is published, and of what is learned from a live source
LEARNT_FROM_TRACE_MS = 60 * DAY_MS  # before the start of a replay
OWN_REACH_MS = 2 * DAY_MS  # after the last real point nothing of ours is published
LEARNING_SECONDS = 30.0  # for a source to give the history to learn from
LEARN_AGAIN_SECONDS = 600.0  # after it could not
SHORTEST_SLEEP, LONGEST_SLEEP = 0.02, 60.0
MOST_AT_ONCE = 2_000  # points of one commit


class ZoneSignal:
    """Any number may run for a zone at once, here and elsewhere."""

    def __init__(self, runtime: Runtime, zone: str, providers: Sequence[Provider]) -> None:
        """`providers`: in order of preference."""
        band = runtime.config.threshold
        self.zone = zone
        self.sources = Sources(providers, milliseconds(band.max_age))
        self._runtime = runtime
        self._stream = IntensityStream(runtime, zone)
        self._window_ms = milliseconds(band.window)
        self._aheads: dict[Grid, Ahead] = {}
        self._learn_again: dict[Grid, float] = {}  # when history is asked for again, monotonic s
        self._speaker: str | None = providers[0].source

    async def run(self) -> None:
        """Publish until stopped; then let go of the sources."""
        stop = self._runtime.stop
        waits = backoff(0.1, 30.0)
        try:
            while not stop.is_set():
                pause = 0.0
                with stop.cut():
                    try:
                        pause = await self.publish_due()
                        waits = backoff(0.1, 30.0)
                    except Exception as error:
                        if not isinstance(error, CommitUnknown) and not is_transient(error):
                            log.exception("signal failed, going on", zone=self.zone)
                        pause = next(waits)
                await stop.sleep(pause)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self.sources.aclose()

    async def publish_due(self) -> float:
        """Publish what is due; returns the seconds until there is something to do again."""
        if await self._stream.read():
            self._aheads.clear()
        now = self._runtime.clock.now()
        heard = await self.sources.ask(lambda provider: self._since(provider, now), now)
        if heard is None:
            pause = LONGEST_SLEEP
        elif heard.source is not None:
            pause = await self._pass_on(heard, heard.source.provider, now)
        else:
            pause = await self._stand_in(heard.degraded or "", now)
        return min(max(min(pause, self.sources.wait()), SHORTEST_SLEEP), LONGEST_SLEEP)

    def _since(self, provider: Provider, now: int) -> int:
        """From when on it is asked for points: never so late that it would seem silent."""
        newest = self._stream.published.newest_real(Grid.of(provider))
        silent = now - self.sources.silent_after(provider)
        if newest is None:
            return min(now - self._window_ms, silent)
        return min(max(newest + 1, now - FURTHEST_BACK_MS), now - REVISED_MS, silent)

    # -- a source speaks ---------------------------------------------------------------------------

    async def _pass_on(self, heard: Heard, provider: Provider, now: int) -> float:
        """What `heard` says that is not published yet."""
        newest, latest = heard.points[-1], self._stream.published.latest
        points = self._overruling(provider, heard.points)
        fresh = [point for point in points if self._is_news(provider, point)]
        more, fresh = len(fresh) > MOST_AT_ONCE, fresh[:MOST_AT_ONCE]
        # Who speaks now says so, and what it expects.
        spoke = latest is not None and latest.source == provider.source
        told = (latest is not None and spoke and latest.forecast) or self._outdone(provider, newest)
        expected = NOTHING
        if not more and (fresh[-1:] == [newest] or not told):
            expected = await self._expect(provider, heard.points, now)
            if fresh[-1:] != [newest] and (expected.forecast or not spoke):
                fresh.append(newest)
        if fresh:
            self._tell_speaker(provider.source, heard.degraded)
            events = [
                self._event(
                    point,
                    now,
                    expected if point is newest else NOTHING,
                    source=provider.source,
                    grid=Grid.of(provider),
                    resolution_ms=provider.resolution_ms,
                    degraded=heard.degraded,
                )
                for point in fresh
            ]
            if not await self._stream.append(events) or more:
                return SHORTEST_SLEEP
        if provider.start is None and not provider.simulated:
            return POLL_SECONDS
        clock = self._runtime.clock
        due = newest.time + provider.resolution_ms
        if due <= now:  # a gap in a trace
            due = now + provider.resolution_ms
        return clock.seconds_until(due, wall_ms())

    def _is_news(self, provider: Provider, point: Point) -> bool:
        """Whether `point` is to be published: nothing is known of its time, or it is better."""
        published, grid = self._stream.published, Grid.of(provider)
        mine, known = self.sources.rank(provider.source), published.get(grid, point.time)
        if known is None:
            last = published.newest_real(grid)
            if last is None or point.time > last:
                return True
            # What lies before all that is published was trimmed, and between two points of a
            # better source there is no gap.
            holding = published.holding(grid, point.time)
            return holding is not None and mine <= self.sources.rank(holding.source)
        theirs = self.sources.rank(known.source)
        if mine != theirs:
            return mine < theirs
        if point.estimated and not known.estimated:
            return False
        return point.value != known.value or point.estimated != known.estimated

    def _outdone(self, provider: Provider, newest: Point) -> bool:
        """Whether a better source's word on the same grid is as new: it holds until there is
        something newer, also if that source has failed since."""
        published, grid = self._stream.published, Grid.of(provider)
        last = published.newest_real(grid)
        known = None if last is None else published.get(grid, last)
        if last is None or known is None or last < newest.time:
            return False
        return self.sources.rank(known.source) < self.sources.rank(provider.source)

    def _overruling(self, provider: Provider, points: Sequence[Point]) -> list[Point]:
        """`points`, and what they hold at other times: worse sources spoke of these, or it did so
        itself, to overrule them."""
        published, grid = self._stream.published, Grid.of(provider)
        mine = self.sources.rank(provider.source)
        said = {point.time: point for point in points}
        for at in published.times(grid, points[0].time, points[-1].time):
            known = published.get(grid, at)
            index = bisect_right(points, at, key=lambda point: point.time) - 1
            holding = points[index]
            held = at < holding.time + provider.resolution_ms
            if known is not None and held and self.sources.rank(known.source) >= mine:
                said.setdefault(at, holding._replace(time=at))
        return [said[at] for at in sorted(said)]

    async def _expect(self, provider: Provider, points: Sequence[Point], now: int) -> Expectation:
        """What follows the newest of `points`."""
        newest = points[-1]
        ahead = await self._ahead(Grid.of(provider), provider.resolution_ms, now, provider)
        ahead.feed((point, provider.resolution_ms) for point in points)
        said: list[Expected] = []
        try:
            said = await provider.forecast(newest.time)
        except SignalError as error:
            log.warning("no forecast from the source", zone=self.zone, error=str(error))
        except Exception:
            log.exception("the source's forecast broke", zone=self.zone)
        return ahead.expect(newest.time, provider.resolution_ms, said, provider.source)

    # -- no source speaks --------------------------------------------------------------------------

    async def _stand_in(self, problems: str, now: int) -> float:
        """The project's own forecast in place of what no source says."""
        published = self._stream.published
        last = published.latest
        grid = None if last is None else Grid.of(last)
        newest_real = None if grid is None else published.newest_real(grid)
        if last is None or grid is None or newest_real is None:
            self._tell_speaker(None, problems)
            await self._stream.silent(problems)
            return LONGEST_SLEEP  # there is no past to learn from
        self._tell_speaker(OWN, problems)
        ahead = await self._ahead(grid, last.resolution_ms, now)
        newest = published.newest(grid)
        assert newest is not None
        limit = newest_real + OWN_REACH_MS
        points = ahead.own(newest, min(now, limit))
        if points:
            degraded = f"all sources failed: {problems}; own forecast"
            events = [
                self._event(
                    point,
                    now,
                    ahead.expect(point.time, ahead.step_ms) if point is points[-1] else NOTHING,
                    source=OWN,
                    grid=grid,
                    resolution_ms=ahead.step_ms,
                    degraded=degraded,
                )
                for point in points
            ]
            if not await self._stream.append(events):
                return SHORTEST_SLEEP
            newest = points[-1].time
        due = max(newest, now) + ahead.step_ms
        if due > limit:
            await self._stream.silent(problems)
            return LONGEST_SLEEP
        return self._runtime.clock.seconds_until(due - due % ahead.step_ms, wall_ms())

    # -- what both need ----------------------------------------------------------------------------

    async def _ahead(
        self, grid: Grid, resolution_ms: int, now: int, provider: Provider | None = None
    ) -> Ahead:
        """What has learned from all that is published of that grid and, as far as `provider`
        has it, from what came before."""
        due = provider is not None and time.monotonic() >= self._learn_again.get(grid, math.inf)
        if grid not in self._aheads or due:
            ahead = Ahead(step_for(resolution_ms))
            past = self._stream.published.real(grid)
            if provider is not None:
                before = past[0][0].time - 1 if past else now
                earlier = await self._earlier(provider, before, now)
                self._learn_again.pop(grid, None)
                if earlier is None:
                    self._learn_again[grid] = time.monotonic() + LEARN_AGAIN_SECONDS
                past = [(point, provider.resolution_ms) for point in earlier or ()] + past
            await anyio.to_thread.run_sync(ahead.feed, past, abandon_on_cancel=True)
            self._aheads[grid] = ahead
        return self._aheads[grid]

    async def _earlier(self, provider: Provider, before: int, now: int) -> list[Point] | None:
        """None if the source could not say."""
        reach = FURTHEST_BACK_MS if provider.start is None else LEARNT_FROM_TRACE_MS
        if now - reach > before:
            return []
        with anyio.move_on_after(LEARNING_SECONDS) as waiting:
            try:
                return await provider.history(now - reach, before)
            except SignalError as error:
                log.warning("no history to learn from", zone=self.zone, error=str(error))
            except Exception:
                log.exception("the source's history broke", zone=self.zone)
        if waiting.cancelled_caught:
            log.warning("no history to learn from within the time", zone=self.zone)
        return None

    def _event(
        self,
        point: Point,
        now: int,
        expected: Expectation,
        *,
        source: str,
        grid: Grid,
        resolution_ms: int,
        degraded: str | None,
    ) -> IntensityObserved:
        return IntensityObserved(
            zone=self.zone,
            time=point.time,
            intensity=point.value,
            source=source,
            kind=grid.kind,
            estimated=point.estimated,
            simulated=grid.simulated,
            resolution_ms=resolution_ms,
            age_ms=max(0, now - point.time),
            degraded=degraded,
            forecast=expected.forecast,
            forecast_low=expected.low,
            forecast_high=expected.high,
            forecast_source=expected.source,
        )

    def _tell_speaker(self, source: str | None, degraded: str | None) -> None:
        if source == self._speaker:
            return
        self._speaker = source
        if source is None:
            log.warning(
                "no source speaks, and no past to forecast from", zone=self.zone, because=degraded
            )
            return
        tell = log.info if degraded is None else log.warning
        tell("another source speaks", zone=self.zone, source=source, because=degraded)
