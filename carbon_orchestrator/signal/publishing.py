"""The signal role: plays a provider's intensities onto the stream, each point once."""

from __future__ import annotations

from typing import Any

import structlog
from redis.asyncio import Redis

from carbon_orchestrator.clock import WALL, GridClock, from_fields, rfc3339, wall_ms
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.naming import parse
from carbon_orchestrator.signal.provider import Point, Provider, SignalError
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff

log = structlog.get_logger(__name__)

SIMULATED_SPEED = 60.0  # a day in 24 minutes
_FURTHEST_BACK_MS = 14 * 86_400_000
_LONGEST_SLEEP = 60.0


def wanted_clock(
    spec: str, provider: Provider, speed: float | None, start: int | None, window_ms: int, wall: int
) -> GridClock:
    """The clock that a deployment with this signal runs on. Raises SignalError.

    A recorded trace starts at `start`, else one window after its first point, so that its
    bands have a past; a trace that reaches up to now is played live.
    """
    recorded = provider.start is not None and provider.end is not None
    if speed is None:
        speed = SIMULATED_SPEED if provider.simulated else 1.0
    if not recorded and not provider.simulated and (speed != 1 or start is not None):
        raise SignalError("a live signal has speed 1 and no start; drop --speed and --start")
    identity = f"{spec} x{speed:g}"
    if start is not None:
        identity += f" from {rfc3339(start)}"
        origin = start
    elif recorded:
        assert provider.start is not None
        assert provider.end is not None
        live = speed == 1 and provider.start <= wall <= provider.end + provider.resolution_ms
        origin = wall if live else min(provider.start + window_ms, provider.end)
    else:
        origin = wall
    return GridClock(wall, origin, speed, identity)


async def establish(
    client: Redis, committer: Committer, topology: Topology, wanted: GridClock
) -> GridClock:
    """Make `wanted` the deployment's clock, unless it has one for the same signal already.

    Raises SignalError where jobs wait by another clock: their deadlines would lose sense.
    """
    live = wanted.speed == 1 and wanted.origin_grid == wanted.origin_wall
    while True:
        fields = await client.hgetall(topology.clock)
        existing = from_fields(fields)
        if existing.signal == wanted.signal:
            return existing
        if fields and not (live and existing.signal == WALL):
            alive = 0
            for state in STATES:
                if state not in TERMINAL:
                    alive += await client.zcard(topology.index(state))
            if alive:
                raise SignalError(
                    f"{alive} jobs wait by the clock of {existing.signal!r}; let them finish or"
                    f" cancel them, or use another data directory, to play {wanted.signal!r}"
                )
        change = Transaction().require_field(
            topology.clock, "signal", existing.signal if fields else ""
        )
        change.set_fields(topology.clock, wanted.fields())
        change.write("DEL", topology.signal)
        if await committer.apply(change):
            return wanted


class SignalRole:
    """Publishes one provider. Any number may run: each point is published once."""

    def __init__(
        self,
        runtime: Runtime,
        spec: str = "simulated",
        *,
        speed: float | None = None,
        start: int | None = None,
    ) -> None:
        self.runtime = runtime
        self.spec = spec
        self.provider = parse(spec, runtime.config.zone)
        self.window_ms = milliseconds(runtime.config.threshold.window)
        self._speed = speed
        self._start = start
        self._client = runtime.connect()
        self._committer = runtime.committer()
        self._over = False

    async def establish_clock(self) -> GridClock:
        """Fix the deployment's clock; see `establish`."""
        wanted = wanted_clock(
            self.spec, self.provider, self._speed, self._start, self.window_ms, wall_ms()
        )
        topology = self.runtime.topology
        clock = await establish(self._client, self._committer, topology, wanted)
        self.runtime.clock = clock
        return clock

    async def run(self) -> None:
        """Publish until stopped."""
        stop = self.runtime.stop
        waits = backoff(0.1, 30.0)
        while not stop.is_set():
            try:
                if not self.runtime.clock.origin_wall:
                    await self.establish_clock()
                pause = await self._publish_due()
                waits = backoff(0.1, 30.0)
            except SignalError as error:
                if not self.runtime.clock.origin_wall:
                    raise
                log.warning("no intensity from the provider", error=str(error))
                pause = next(waits)
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    log.exception("signal failed, going on")
                pause = next(waits)
            await stop.sleep(pause)

    async def _publish_due(self) -> float:
        """Publish what is due; returns the seconds until the next point is expected."""
        clock, provider, key = self.runtime.clock, self.provider, self.runtime.topology.signal
        now = clock.now()
        raw: Any = await self._client.hget(key, provider.zone)
        last = int(raw.partition(b":")[0]) if raw else None
        oldest = now - _FURTHEST_BACK_MS if last is not None else now - self.window_ms
        points = await provider.history(max(oldest, (last or 0) + 1), now)
        if points:
            await self._publish(points, raw.decode() if raw else "")
        newest = points[-1].time if points else last
        if provider.end is not None and now > provider.end + provider.resolution_ms:
            if not self._over:
                self._over = True
                log.warning("the recorded trace is over", ended=rfc3339(provider.end))
            return _LONGEST_SLEEP
        due = (newest if newest is not None else now) + provider.resolution_ms
        return min(max(clock.seconds_until(due, wall_ms()), 0.02), _LONGEST_SLEEP)

    async def _publish(self, points: list[Point], expected: str) -> None:
        topology, zone = self.runtime.topology, self.provider.zone
        forecast, forecast_source = await self.provider.forecast(points[-1].time)
        newest = points[-1]
        change = Transaction().require_field(topology.signal, zone, expected)
        change.set_fields(topology.signal, {zone: f"{newest.time}:{newest.value!r}"})
        for point in points:
            last = point is newest
            change.emit(
                topology.intensity,
                envelope(
                    IntensityObserved(
                        zone=zone,
                        time=point.time,
                        intensity=point.value,
                        source=self.provider.source,
                        kind=self.provider.kind,
                        estimated=self.provider.estimated,
                        simulated=self.provider.simulated,
                        resolution_ms=self.provider.resolution_ms,
                        forecast=[(p.time, round(p.value, 1)) for p in forecast] if last else [],
                        forecast_source=forecast_source if last else None,
                    ),
                    "signal",
                ),
            )
        await self._committer.apply(change)
