"""The clock that a deployment runs on, as its signal wants it: fixed once, kept in Redis."""

from __future__ import annotations

from collections.abc import Iterable

from redis.asyncio import Redis

from carbon_orchestrator import partitions
from carbon_orchestrator.clock import GridClock, from_fields, rfc3339
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.provider import Provider, SignalError
from streams.commit import Committer, Transaction

FASTEST = 1_000_000
SIMULATED_SPEED = 60.0  # a day in 24 minutes


def wanted_clock(
    spec: str, provider: Provider, speed: float | None, start: int | None, window_ms: int, wall: int
) -> GridClock:
    """The clock that a deployment with this first source runs on. Raises SignalError.

    A recorded trace starts at `start`, else one window after its first point, so that its
    bands have a past; a trace that reaches up to now is played live.
    """
    if speed is not None and not 0 < speed <= FASTEST:
        raise SignalError(f"--speed must be above 0 and at most {FASTEST}")
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


def refuse_live(clock: GridClock, providers: Iterable[Provider]) -> None:
    """Raise SignalError for a live source where the clock does not tell wall time: it would be
    asked about times of which it knows nothing, or another grid's past."""
    for provider in providers:
        if provider.start is None and not provider.simulated and not tells_wall_time(clock):
            raise SignalError(
                f"{provider.source} (zone {provider.zone}) is live, but {clock.signal!r} is not"
                " played in real time; give --speed 1, or name live sources only"
            )


async def establish(
    runtime: Runtime, client: Redis, committer: Committer, wanted: GridClock
) -> GridClock:
    """Make `wanted` the deployment's clock, unless it has one for the same signal already. With
    its first clock the number of its partitions is fixed.

    From one that tells wall time to another nothing changes but the signal's name. Raises
    SignalError where jobs wait by another clock: their deadlines would lose sense.
    """
    topology = runtime.topology
    while True:
        fields = await client.hgetall(topology.clock)
        existing = from_fields(fields)
        if existing.signal == wanted.signal:
            return existing
        same = tells_wall_time(wanted) and tells_wall_time(existing)
        if fields and not same:
            alive = await _unfinished(runtime)
            if alive:
                raise SignalError(
                    f"{alive} jobs wait by the clock of {existing.signal!r}; let them finish or"
                    f" cancel them, or use another data directory, to play {wanted.signal!r}"
                )
        change = Transaction().require_field(
            topology.clock, "signal", existing.signal if fields else ""
        )
        first = {} if fields else partitions.fields(runtime.partitions)
        change.set_fields(topology.clock, {**wanted.fields(), **first})
        if not same:
            change.write("DEL", topology.signal)
        if await committer.apply(change):
            return wanted


async def _unfinished(runtime: Runtime) -> int:
    """How many jobs have not ended."""
    alive = 0
    for each in runtime.each():
        client = each.connect()
        for state in STATES:
            if state not in TERMINAL:
                alive += await client.zcard(each.topology.index(state))
    return alive


def tells_wall_time(clock: GridClock) -> bool:
    """Whether grid time is wall time."""
    return clock.speed == 1 and clock.origin_wall == clock.origin_grid
