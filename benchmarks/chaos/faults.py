"""What each kind of strike does, and how it is undone."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

from benchmarks.chaos.house import House
from benchmarks.chaos.proxy import Conduct
from benchmarks.chaos.strikes import Strike
from streams.connection import connect

_UNLIMITED = resource.RLIM_INFINITY
_REPLICATION_DELAY_MS = 300.0
_ROOM_BYTES = 16_384  # left on a disk that is about to be full


class Faults:
    """Carries strikes out against a house; each is undone when it is over or cancelled."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.made: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._acts: dict[str, Callable[[Strike], Awaitable[None]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "kill-server": self._kill_server,
            "oom": self._oom,
            "disk": self._disk,
            "archive": self._archive,
            "clock": self._clock,
            "failover": self._failover,
        }

    async def carry_out(self, strike: Strike) -> None:
        act = self._acts.get(strike.kind, self._on_link)
        try:
            await act(strike)
        except PermissionError as error:  # this machine does not let us; the report says so
            self.skipped[f"{strike.kind}: {error}"] += 1
        else:
            self.made[strike.kind] += 1

    # -- processes -----------------------------------------------------------------------------

    async def _kill(self, strike: Strike) -> None:
        self.house.look_after()
        self.house.kill(strike.target)
        self.house.respawn(strike.target)

    async def _pause(self, strike: Strike) -> None:
        """Past its lease: others take its work over, and then it wakes up in the midst of it."""
        process = self.house.processes[strike.target]
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    async def _clock(self, strike: Strike) -> None:
        self.house.step(strike.target, strike.amount)
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            self.house.step(strike.target, 0.0)

    # -- the network -----------------------------------------------------------------------------

    async def _on_link(self, strike: Strike) -> None:
        network, link = self.house.network, strike.target
        await network.behave(link, conduct(strike), reset=strike.kind == "cut")
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            await network.behave(link, Conduct())

    # -- the server ------------------------------------------------------------------------------

    async def _kill_server(self, strike: Strike) -> None:
        await self.house.restart_server()

    async def _oom(self, strike: Strike) -> None:
        """No memory for writes, and none is made: noeviction."""
        async with connect(self.house.server.url) as client:
            await client.config_set("maxmemory", 1)
            try:
                await asyncio.sleep(strike.seconds)
            finally:
                await client.config_set("maxmemory", 0)

    async def _disk(self, strike: Strike) -> None:
        """No room for the append-only file. A server that syncs each write ends at that."""
        server = self.house.server
        files = (server.directory / "appendonlydir").glob("*")
        _limit_files(server.pid, max(each.stat().st_size for each in files) + _ROOM_BYTES)
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            if server.running:
                _limit_files(server.pid, _UNLIMITED)
            await self.house.ensure_server()

    async def _archive(self, strike: Strike) -> None:
        """No room for the archive, nor for the log."""
        process = self.house.processes[strike.target]
        _limit_files(process.pid, 0)
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            if process.poll() is None:
                _limit_files(process.pid, _UNLIMITED)

    async def _failover(self, strike: Strike) -> None:
        """The primary dies with writes that have not reached the replica, which takes over."""
        await self.house.delay_replication(_REPLICATION_DELAY_MS)
        await asyncio.sleep(strike.seconds / 2)
        await self.house.in_step()  # it may have begun anew when the primary was restarted
        await self.house.fail_over()
        await asyncio.sleep(strike.amount)
        await self.house.attach()


def conduct(strike: Strike) -> Conduct:
    """How a link behaves during a strike on it."""
    match strike.kind:
        case "latency":
            return Conduct(latency_ms=strike.amount, jitter_ms=strike.amount)
        case "cut":
            return Conduct(refuse=True)
        case "half-open":
            which = ("requests", "replies", "both")[int(strike.amount * 3)]
            return Conduct(silent=which)  # type: ignore[arg-type]
        case "mid-reply":
            return Conduct(cut=0.02 + strike.amount * 0.2)
        case "trickle":
            return Conduct(trickle=1 + int(strike.amount * 20))
    raise ValueError(strike.kind)


def _limit_files(pid: int | None, size: int) -> None:
    """How large any file may grow through this process, bytes: what needs no privilege and looks
    to it like a full disk."""
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
