"""The signal role: plays the intensities of every zone onto the stream, each point once."""

from __future__ import annotations

import anyio

from carbon_orchestrator.clock import GridClock, wall_ms
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.copying import Copying
from carbon_orchestrator.signal.establishing import establish, refuse_live, wanted_clock
from carbon_orchestrator.signal.naming import parse
from carbon_orchestrator.signal.provider import Provider
from carbon_orchestrator.signal.zone import ZoneSignal
from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff


class SignalRole:
    """Publishes the home zone from `specs`, in order of preference, and the zones of the
    configuration from theirs, to every partition. Any number may run: each point is published once.

    Raises SignalError for a source that cannot be had.
    """

    def __init__(
        self,
        runtime: Runtime,
        *specs: str,
        speed: float | None = None,
        start: int | None = None,
    ) -> None:
        self.runtime = runtime
        config = runtime.config
        self.specs = specs or ("simulated",)
        named = {config.zone: self.specs}
        named |= {name: tuple(zone.signal) for name, zone in config.zones.items()}
        self.zones = [
            ZoneSignal(runtime, zone, [parse(spec, zone) for spec in sources])
            for zone, sources in named.items()
        ]
        self._speed = speed
        self._start = start
        self._client = runtime.connect()
        self._committer = runtime.committer()

    @property
    def providers(self) -> list[Provider]:
        """The home zone's, in order of preference; the first sets the clock."""
        return [source.provider for source in self.zones[0].sources.all]

    async def establish_clock(self) -> GridClock:
        """Fix the deployment's clock; see `establish`. Raises SignalError."""
        window_ms = milliseconds(self.runtime.config.threshold.window)
        wanted = wanted_clock(
            self.specs[0], self.providers[0], self._speed, self._start, window_ms, wall_ms()
        )
        every = [source.provider for zone in self.zones for source in zone.sources.all]
        refuse_live(wanted, every)
        self.runtime.clock = await establish(self.runtime, self._client, self._committer, wanted)
        await self.runtime.read_clocks(self._client)
        return self.runtime.clock

    async def run(self) -> None:
        """Publish until stopped."""
        stop = self.runtime.stop
        waits = backoff(0.1, 30.0)
        while not stop.is_set() and not self.runtime.clock.origin_wall:
            try:
                await self.establish_clock()
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    raise
                await stop.sleep(next(waits))
        await self.runtime.announce("signal", self.runtime.consumer_name("signal"), self._committer)
        async with anyio.create_task_group() as tasks:
            for zone in self.zones:
                tasks.start_soon(zone.run)
            for each in self.runtime.each():
                if each.topology.partition.number:
                    tasks.start_soon(Copying(self.runtime, each).run)
