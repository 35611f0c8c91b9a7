"""The loop around a processor: read a batch, decide, commit once.

A processor is an async callable from a list of entries to one `Transaction` per entry, in
order. The consumer adds the guard (the entry's acknowledgement) and the dead letters of what
could not be decoded, and commits them all in one round trip. An entry that is delivered twice
thus takes effect once. Outside effects of the processor itself are at-least-once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import structlog

from streams.commit import Committer, Transaction
from streams.connection import BLOCK_MS
from streams.dead_letters import DEAD_LETTERS, bury
from streams.errors import (
    CommitUnknown,
    Unprocessable,
    WriteFailed,
    is_missing_group,
    is_transient,
)
from streams.event import Entry
from streams.group import Group
from streams.retry import backoff
from streams.stop import Stop

log = structlog.get_logger(__name__)

Processor = Callable[[Sequence[Entry]], Awaitable[Sequence[Transaction]]]


def begin(entry: Entry, group: str) -> Transaction:
    """A transaction that holds once per entry: its guard is the acknowledgement."""
    return Transaction().require_ack(entry.stream, group, entry.id)


def bury_faults(transaction: Transaction, entry: Entry, group: str, dead_letters: str) -> None:
    """Add a dead letter for every event of the entry that could not be decoded."""
    for fault in entry.faults:
        bury(
            transaction,
            dead_letters,
            reason=fault.reason,
            stream=entry.stream,
            entry_id=entry.id,
            group=group,
            deliveries=entry.deliveries,
            fields=fault.fields,
        )


def dead_letter(entry: Entry, group: str, dead_letters: str, reason: str) -> Transaction:
    """Acknowledge a whole entry into the dead letters."""
    transaction = begin(entry, group)
    bury(
        transaction,
        dead_letters,
        reason=reason,
        stream=entry.stream,
        entry_id=entry.id,
        group=group,
        deliveries=entry.deliveries,
        fields=entry.fields,
    )
    return transaction


class Consumer:
    """Runs one processor until stopped; outlives server restarts and its own failures.

    `batch`: about how many events are processed and committed at once; `lease_ms`: how long
    another consumer may be silent before its entries are taken over.
    """

    def __init__(
        self,
        group: Group,
        committer: Committer,
        processor: Processor,
        *,
        batch: int = 500,
        lease_ms: int = 15_000,
        max_deliveries: int = 5,
        block_ms: int = BLOCK_MS,
    ) -> None:
        self.group = group
        self.committer = committer
        self.processor = processor
        self.batch = batch
        self.lease_ms = lease_ms
        self.max_deliveries = max_deliveries
        self.block_ms = block_ms
        self.dead_letters = committer.partition.key(DEAD_LETTERS)
        self._failures: dict[tuple[str, str], int] = {}
        self._count = max(1, batch // 16)  # entries asked for; see _fitting

    async def run(self, stop: Stop) -> None:
        """Consume until `stop` is set; then finish what is pending and leave the group."""
        waits = backoff()
        again = False
        while not stop.is_set():
            try:
                await self.group.ensure()
                await self._drain_pending(stop, again)
                again = True
                # What failed is pending: it is tried again after a pause, not after a lease.
                async for entries in self._batches(stop):
                    await self._handle(entries)
                    if self._failures:
                        break
                    waits = backoff()
            except Exception as error:
                if isinstance(error, CommitUnknown) or is_transient(error):
                    log.warning(
                        "server unavailable, waiting", group=self.group.name, error=str(error)
                    )
                elif is_missing_group(error):
                    log.warning("group is gone, making it again", group=self.group.name)
                else:
                    log.exception("consumer failed, going on", group=self.group.name)
            await stop.sleep(next(waits))
        with suppress(Exception), anyio.CancelScope(shield=True), anyio.fail_after(5):
            # A read cancelled at the end may have been delivered something unseen.
            await self._drain_pending(None, True)
            await self.group.leave()

    async def _batches(self, stop: Stop) -> AsyncIterator[list[Entry]]:
        """New entries as they come, and every third of a lease those of silent consumers."""
        next_claim = anyio.current_time() + self.lease_ms / 3000
        while not stop.is_set() and not self._failures:
            if anyio.current_time() >= next_claim:
                next_claim = anyio.current_time() + self.lease_ms / 3000
                claimed = await self.group.claim(self.lease_ms, self.batch)
                if claimed:
                    yield claimed
            entries: list[Entry] = []
            with stop.cut():
                entries = await self.group.wait(self._count, self.block_ms)
            if entries:
                self._count = self._fitting(entries)
                yield entries

    def _fitting(self, entries: Sequence[Entry]) -> int:
        """How many entries like these hold about a batch of events: more would keep whatever
        comes in a more urgent lane waiting."""
        events = sum(len(each.messages) for each in entries)
        return max(1, min(self.batch, self.batch * len(entries) // max(1, events)))

    async def _drain_pending(self, stop: Stop | None, again: bool) -> None:
        after: dict[str, str] = {}
        seen: set[tuple[str, str]] = set()
        while stop is None or not stop.is_set():
            entries = await self.group.own_pending(self.batch, after, again=again)
            if not entries:
                # What failed here and is pending no more was settled by another consumer.
                self._failures = {k: n for k, n in self._failures.items() if k in seen}
                return
            after.update({entry.stream: entry.id for entry in entries})
            seen.update((entry.stream, entry.id) for entry in entries)
            await self._handle(entries)

    async def _handle(self, entries: Sequence[Entry]) -> None:
        exhausted = [each for each in entries if each.deliveries > self.max_deliveries]
        if exhausted:
            await self.committer.commit(
                [
                    dead_letter(
                        each,
                        self.group.name,
                        self.dead_letters,
                        f"delivered {each.deliveries} times without success",
                    )
                    for each in exhausted
                ]
            )
            entries = [each for each in entries if each.deliveries <= self.max_deliveries]
        while entries:
            count = self._fitting(entries[:1])
            await self._process(entries[:count])
            entries = entries[count:]

    async def _process(self, entries: Sequence[Entry]) -> None:
        try:
            outcomes = await self.processor(entries)
            if len(outcomes) != len(entries):
                raise RuntimeError(f"{len(outcomes)} outcomes for {len(entries)} entries")
            await self.committer.commit(
                [
                    self._guarded(each, outcome)
                    for each, outcome in zip(entries, outcomes, strict=True)
                ]
            )
        except WriteFailed as error:
            await self._half_done([entries[i] for i in error.failed], error)
        except Exception as error:
            if isinstance(error, CommitUnknown) or is_transient(error):
                raise
            if len(entries) > 1:
                # Find the one at fault: the others must not wait for it.
                for entry in entries:
                    await self._process([entry])
            else:
                await self._failed(entries[0], error)
        else:
            for entry in entries:
                self._failures.pop((entry.stream, entry.id), None)

    def _guarded(self, entry: Entry, outcome: Transaction) -> Transaction:
        guarded = begin(entry, self.group.name)
        if entry.faults:
            bury_faults(guarded, entry, self.group.name, self.dead_letters)
        guarded.then(outcome)
        return guarded

    async def _half_done(self, entries: Sequence[Entry], error: Exception) -> None:
        """A refused write leaves an entry acknowledged and half of its outcome unwritten: a
        defect or a damaged key. Nothing can be tried again, so the operator gets it."""
        log.error("write refused", stream=entries[0].stream, exc_info=error)
        letters = []
        for entry in entries:
            letter = Transaction()
            bury(
                letter,
                self.dead_letters,
                reason=f"the server refused a write: {error}",
                stream=entry.stream,
                entry_id=entry.id,
                group=self.group.name,
                deliveries=entry.deliveries,
                fields=entry.fields,
            )
            # Still pending if the refused command came before the acknowledgement.
            letter.write("XACK", entry.stream, self.group.name, entry.id)
            letters.append(letter)
        await self.committer.commit(letters)

    async def _failed(self, entry: Entry, error: Exception) -> None:
        key = (entry.stream, entry.id)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        where = {"stream": entry.stream, "entry": entry.id, "failures": failures}
        reason = None
        if isinstance(error, Unprocessable):
            log.error("entry cannot be processed", **where, reason=str(error))
            reason = str(error)
        else:
            log.error("entry failed", **where, exc_info=error)
            if failures >= self.max_deliveries:
                reason = f"processing failed {failures} times: {type(error).__name__}: {error}"
        if reason is not None:
            await self.committer.commit(
                [dead_letter(entry, self.group.name, self.dead_letters, reason)]
            )
            del self._failures[key]
