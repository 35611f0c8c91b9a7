"""The scaler: looks at what each pool of a zone has to do, and at the grid, and sets its size."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec
import structlog

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.durations import milliseconds, seconds
from carbon_orchestrator.events import Pool, PoolScaled, ScalingMemory
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.actuator import Actuator, ActuatorError, Contended
from carbon_orchestrator.scaler.deciding import VERSION, Params, decide, grid_state
from carbon_orchestrator.scaler.demand import Demand
from carbon_orchestrator.scaler.demands import Demands
from carbon_orchestrator.scaler.holding import SOURCE, Holding
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.topology import CODEC, site
from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff
from streams.table import Table

log = structlog.get_logger(__name__)

#: The longest pause after actuators that failed, seconds.
_SLOWEST = 60.0
#: A size that was found changed so often in a row has another master.
_OFTEN = 3


class _Sized(msgspec.Struct):
    """One pool in this scaler's hands."""

    holding: Holding
    memory: ScalingMemory | None = None  # None: of another scaler's decisions, to be read
    expected: int | None = None  # the size as we left it
    contended: int = 0


class ScalerRole:
    """Sizes the pools of one zone, by default all of the home zone. `name`: how it is called on
    record. ConfigError for a zone or pool that is not configured."""

    def __init__(
        self,
        runtime: Runtime,
        actuator: Actuator,
        *,
        pools: Sequence[Pool] = (),
        zone: str | None = None,
        name: str | None = None,
    ) -> None:
        config, topology = runtime.config, runtime.topology
        self.runtime = runtime
        self.actuator = actuator
        self.zone = away_zone(runtime, zone)
        there = [pool for pool, where in topology.sites if where == self.zone]
        if missing := [pool for pool in pools if pool not in there]:
            raise ConfigError(f"there is no pool {site(missing[0], self.zone)!r}")
        self.name = name or runtime.consumer_name(SOURCE)
        self._committer = runtime.committer()
        chosen = list(pools) or there
        self._pools = {
            pool: _Sized(
                Holding(
                    self._committer,
                    topology.scaler(pool, self.zone),
                    topology.scaling,
                    self.name,
                    milliseconds(config.scaler.interval),
                )
            )
            for pool in chosen
        }
        self._demand = Demands(runtime, chosen, self.zone)
        self.grid = [Intensities(self.zone or config.zone, Bands.of(config.threshold))]
        self.table = Table(runtime.connect(), CODEC, topology.intensity, self.grid[0].apply)

    async def run(self) -> None:
        """Scale until stopped."""
        stop = self.runtime.stop
        try:
            await self._load()
            if not self.actuator.dry:
                await self.runtime.announce(SOURCE, self.name, self._committer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.table.run, stop)
                tasks.start_soon(self._look_again)
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave()

    async def _load(self) -> None:
        """The grid must be known before the first decision."""
        waits = backoff()
        while not self.runtime.stop.is_set():
            try:
                await self.table.load()
                return
            except Exception as error:
                if not is_transient(error):
                    raise
                await self.runtime.stop.sleep(next(waits))

    async def _look_again(self) -> None:
        stop, interval = self.runtime.stop, seconds(self.runtime.config.scaler.interval)
        waits = backoff(interval, _SLOWEST)
        while not stop.is_set():
            pause = interval
            try:
                with stop.cut():
                    await self.look()
                waits = backoff(interval, _SLOWEST)
            except ActuatorError as error:
                pause = next(waits)
                log.error("size not changed", actuator=self.actuator.name, error=str(error))
            except Exception as error:
                pause = next(waits)
                if isinstance(error, CommitUnknown) or is_transient(error):
                    log.warning("server unavailable, sizes stay", error=str(error))
                else:
                    log.exception("scaling failed, going on")
            await stop.sleep(pause)

    async def look(self) -> None:
        """Decide once about every pool that is ours. Raises ActuatorError for the first that
        failed, when all have had their turn."""
        config, clock = self.runtime.config, self.runtime.clock
        if not await self.actuator.leading():
            await self._stand_by(list(self._pools))
            return
        demands = await self._demand.read(clock.now(), clock.length(seconds(config.scaler.ahead)))
        failed: ActuatorError | None = None
        for pool, demand in demands.items():
            try:
                await self._size(pool, demand)
            except ActuatorError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _size(self, pool: Pool, demand: Demand) -> None:
        sized = self._pools[pool]
        if self.actuator.dry:
            revision, memory = 0, sized.memory or ScalingMemory()
        else:
            held = await sized.holding.claim()
            if held is None:
                await self._stand_by([pool])
                return
            if sized.memory is None:
                sized.expected = held.size
            # What was wanted before we began to look is no measure for shrinking.
            memory = sized.memory or msgspec.structs.replace(held.memory, wanted=[])
            revision = held.revision
        current = await self.actuator.size(pool)
        self._notice(pool, sized, current)
        now = self.runtime.now()
        params = Params.of(self.runtime.config, pool, self.runtime.clock.speed)
        grid = grid_state(self.grid[0].outlook())
        scale = decide(params, grid, demand.backlog, demand.in_flight, current, now, memory)
        if scale.replicas == current:
            sized.memory = scale.memory
            return
        event = PoolScaled(
            pool=pool,
            zone=self.zone or None,
            at=now,
            version=VERSION,
            params=msgspec.Raw(msgspec.json.encode(params)),
            actuator=self.actuator.name,
            scaler=self.name,
            revision=revision + 1,
            grid=grid,
            backlog=demand.backlog,
            in_flight=demand.in_flight,
            memory=memory,
            current=current,
            replicas=scale.replicas,
            band=scale.band,
            contended=sized.contended,
            reason=scale.reason,
        )
        if not self.actuator.dry and not await sized.holding.change(event, scale.memory):
            await self._stand_by([pool])
            return
        sized.memory = scale.memory
        sized.expected = None  # not known before it is done
        try:
            await self.actuator.scale(pool, current, scale.replicas, demand.busy, scale.reason)
        except Contended:
            sized.contended += 1
            raise
        sized.expected = scale.replicas
        log.info("pool scaled", pool=pool, size=scale.replicas, reason=scale.reason)
        if not self.actuator.dry:
            await sized.holding.applied(event.revision)

    def _notice(self, pool: Pool, sized: _Sized, current: int) -> None:
        """Whether somebody else sets this size, too."""
        if not self.actuator.shared or sized.expected is None:
            return
        if current == sized.expected:
            sized.contended = 0
            return
        sized.contended += 1
        tell = log.error if sized.contended >= _OFTEN else log.warning
        tell(
            "somebody else changes this pool's size; only one may: remove the other autoscaler",
            pool=pool,
            left_at=sized.expected,
            found=current,
            times=sized.contended,
        )

    async def _stand_by(self, pools: list[Pool]) -> None:
        for pool in pools:
            self._pools[pool].memory = None
            self._pools[pool].expected = None
        await self.actuator.stand_by(pools)

    async def _leave(self) -> None:
        await self.actuator.aclose()
        if self.actuator.dry:
            return
        for sized in self._pools.values():
            try:
                with anyio.fail_after(5):
                    await sized.holding.release()
            except Exception as error:
                log.info("left without saying so", error=str(error))
                return


def away_zone(runtime: Runtime, zone: str | None) -> str:
    """ "" for the home zone. ConfigError for one without pools."""
    home = runtime.config.zone
    away = "" if zone is None or zone == home else zone
    if all(where != away for _, where in runtime.topology.sites):
        raise ConfigError(
            f"there is no zone {away!r}; configured are {', '.join([home, *runtime.config.zones])}"
        )
    return away
