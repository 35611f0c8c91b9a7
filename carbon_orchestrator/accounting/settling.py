"""Settles, every few seconds, what settlement.py finds: one event on record for each step."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from carbon_orchestrator.accounting.figures import absurd
from carbon_orchestrator.accounting.rounds import rounds
from carbon_orchestrator.accounting.settlement import (
    Due,
    Grids,
    Tally,
    Touched,
    bound,
    since_priced,
    since_settled,
)
from carbon_orchestrator.events import Change, EmissionsRecorded, EmissionsSettled
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import ACCOUNTING, CODEC
from streams.archive import Archive
from streams.codec import envelope
from streams.commit import Transaction
from streams.event import Message, entry_order
from streams.history import BEGIN, History, last_of_ms
from streams.lines import RawEntry

_PAUSE_SECONDS = 3.0
#: Of one step, before it is put on record.
_MOST_ATTEMPTS = 2000
_MOST_DUE = 2000
_MOST_ROWS = 1000  # of one event
_PAGE = 20  # entries, of up to 500 events each
#: An attempt's entry is added when it has ended; clocks may differ by so much.
_SLACK_MS = 60_000
_encode = msgspec.json.Encoder().encode
_due = msgspec.json.Decoder(Due).decode


class State(msgspec.Struct, frozen=True):
    """How far has been settled, as in the hash `settled`; see EmissionsSettled. `step`: how many
    settlements there have been."""

    emissions: str = BEGIN
    intensity: str = BEGIN
    until: int = 0
    step: int = 0

    @classmethod
    def parse(cls, fields: dict[bytes, bytes]) -> State:
        return msgspec.convert(
            {name.decode(): value.decode() for name, value in fields.items()}, cls, strict=False
        )


class Settling:
    """Any number may run at once: each step is taken by one of them."""

    def __init__(self, runtime: Runtime, archive: Path | None = None) -> None:
        """`archive`: its directory, where what was trimmed is read from."""
        self._runtime = runtime
        self._client: Any = runtime.connect()
        self._committer = runtime.committer()
        partition = runtime.topology.partition
        held = Archive(archive, partition) if archive is not None else None
        self._history = History(self._client, held, partition)
        self._bands = Bands.of(runtime.config.threshold)
        self._home = runtime.config.zone
        self._before, self._now = Grids(self._bands), Grids(self._bands)
        #: Up to there follow no attempts upon what is settled.
        self._passed = BEGIN

    async def run(self) -> None:
        """Settle until stopped."""
        await rounds(self._runtime.stop, _PAUSE_SECONDS, "settling", self.settle)

    async def settle(self) -> None:
        """Settle all there is to settle now."""
        stop = self._runtime.stop
        while not stop.is_set():
            began = time.monotonic()
            if not await self._step():
                return
            # The pipeline comes first: at most half of the time is spent here.
            await stop.sleep(time.monotonic() - began)

    async def _step(self) -> bool:
        """Whether there was something to settle."""
        topology = self._runtime.topology
        state = State.parse(await self._client.hgetall(topology.settled))
        if entry_order(state.emissions) > entry_order(self._passed) or not state.step:
            self._passed = state.emissions
        # Attempts before intensities: what an attempt was priced by is then among these.
        passed, attempts = await self._attempts()
        news = await self._observe(state)
        until, due = await self._due(max(state.until, self._now.known_until()))
        until = max(state.until, until)
        if not attempts and not news and not due:
            self._passed = passed
            return False
        tally = Tally()
        for event in attempts:
            tally.restate(event, self._home, since_priced(event, self._now))
        await self._restate(state, news, tally)
        if self._runtime.stop.is_set():
            return False
        waiting = [Due.of(event) for event in attempts]
        following = State(passed, self._now.read, until, state.step + 1)
        change = Transaction().require_field(
            topology.settled, "step", str(state.step) if state.step else ""
        )
        change.set_fields(topology.settled, msgspec.structs.asdict(following))
        for each in waiting:
            if each is not None:
                change.put(topology.unsettled, each.end, _encode(each).decode())
        for member in due:
            change.drop(topology.unsettled, member.decode())
            found = bound(entry := _due(member), self._now)
            if found is not None:
                tally.bind(entry, found)
        for settled in _events(state, following, tally):
            change.emit(topology.emissions, envelope(settled, ACCOUNTING))
        if await self._committer.apply(change):
            for message in news:
                self._before.apply(message)
            self._passed = passed
        return True

    # -- what there is ---------------------------------------------------------------------------

    async def _attempts(self) -> tuple[str, list[EmissionsRecorded]]:
        """The next attempts that are not settled, and up to which entry they are."""
        passed, found = self._passed, list[EmissionsRecorded]()
        async for page in self._pages(passed):
            for entry_id, fields in page:
                found += _recorded(entry_id, fields)
                passed = entry_id
                if len(found) >= _MOST_ATTEMPTS:
                    return passed, found
        return passed, found

    async def _observe(self, state: State) -> list[Message]:
        """Bring both grids up to date: that before to what is settled, that of now to the end.
        What lies between, in order."""
        if entry_order(self._before.read) > entry_order(state.intensity):
            self._before, self._now = Grids(self._bands), Grids(self._bands)  # lost and begun anew
        stream, news = self._runtime.topology.intensity, list[Message]()
        settled, last = entry_order(state.intensity), self._before.read
        while True:
            rows = await self._client.execute_command(
                "XRANGE", stream, f"({last}", "+", "COUNT", 500
            )
            for raw_id, fields in rows:
                last = raw_id.decode()
                for message in CODEC.entry(stream, last, tuple(fields)).messages:
                    self._now.apply(message)
                    if entry_order(last) <= settled:
                        self._before.apply(message)
                    else:
                        news.append(message)
            if len(rows) < 500:
                return news

    async def _due(self, until: int) -> tuple[int, list[bytes]]:
        """Attempts that end before `until`, or a lower one where they are many."""
        found: Any = await self._client.zrange(
            self._runtime.topology.unsettled,
            "-inf",
            f"({until}",
            byscore=True,
            offset=0,
            num=_MOST_DUE,
            withscores=True,
        )
        if len(found) == _MOST_DUE:
            until = min(until, int(found[-1][1]))
        return until, [member for member, _ in found]

    async def _pages(self, after: str, until: str | None = None) -> AsyncIterator[list[RawEntry]]:
        """Entries of `emissions`, small pages where they are live."""
        topology = self._runtime.topology
        name = topology.partition.name(topology.emissions)
        while True:
            # Both as of one moment: between two pages entries may go to the archive.
            async with self._client.pipeline(transaction=True) as both:
                both.hget(topology.archived, name)
                both.execute_command(
                    "XRANGE", topology.emissions, f"({after}", until or "+", "COUNT", _PAGE
                )
                archived, rows = await both.execute()
            if archived is not None and entry_order(archived.decode()) > entry_order(after):
                async for page in self._history.pages(name, after, until):
                    yield page
                return
            if not rows:
                return
            yield [(row[0].decode(), tuple(row[1])) for row in rows]
            if len(rows) < _PAGE:
                return
            after = rows[-1][0].decode()

    async def _restate(self, state: State, news: list[Message], tally: Tally) -> None:
        """What the news change about attempts that are settled."""
        touched = Touched.of(self._before, news, self._bands.max_age_ms)
        if touched.since is None or state.emissions == BEGIN:
            return
        ended = max(0, self._runtime.clock.wall(touched.since) - _SLACK_MS)
        after = last_of_ms(ended - 1) if ended else BEGIN
        if entry_order(after) >= entry_order(state.emissions):
            return
        began = time.monotonic()
        async for page in self._pages(after, state.emissions):
            for entry_id, fields in page:
                for event in _recorded(entry_id, fields):
                    change = since_settled(event, self._before, self._now, touched)
                    tally.restate(event, self._home, change)
            if self._runtime.stop.is_set():
                return
            await self._runtime.stop.sleep(time.monotonic() - began)
            began = time.monotonic()


def _recorded(entry_id: str, fields: tuple[bytes, ...]) -> list[EmissionsRecorded]:
    entry = CODEC.entry("", entry_id, fields)
    return [
        each.event
        for each in entry.messages
        if isinstance(each.event, EmissionsRecorded) and not absurd(each.event)
    ]


def _events(before: State, now: State, tally: Tally) -> list[EmissionsSettled]:
    """One event, or more where there are many rows."""
    restated, bounded = list(tally.restated()), list(tally.bounded())
    rows: list[tuple[list[Change], list[Change]]] = [
        (restated[at : at + _MOST_ROWS], bounded[at : at + _MOST_ROWS])
        for at in range(0, max(len(restated), len(bounded), 1), _MOST_ROWS)
    ]
    previous = before.emissions, before.intensity, before.until
    return [
        EmissionsSettled(
            emissions_id=now.emissions,
            intensity_id=now.intensity,
            until=now.until,
            previous=previous,
            restated=some,
            bounded=others,
        )
        for some, others in rows
    ]
