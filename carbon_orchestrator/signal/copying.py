"""Intensities go to every partition: what is published in the first is copied to the others."""

from __future__ import annotations

from typing import Any

import structlog

from carbon_orchestrator.runtime import Runtime
from streams.commit import Transaction
from streams.connection import BLOCK_MS
from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff

log = structlog.get_logger(__name__)

#: Of a partition's `signal` hash: up to which entry of the first one it has everything.
_COPIED = "copied"
_PAGE = 100


class Copying:
    """Copies the entries of the first partition's intensity stream to another's, each once, however
    many do so: every commit moves on the mark from where it was found."""

    def __init__(self, first: Runtime, other: Runtime) -> None:
        self._stop = first.stop
        self._source = first.topology.intensity
        self._intensity, self._mark = other.topology.intensity, other.topology.signal
        self._number = other.topology.partition.number
        self._reader, self._client = first.connect(), other.connect()
        self._committer = other.committer()

    async def run(self) -> None:
        """Until the stop."""
        waits = backoff()
        while not self._stop.is_set():
            try:
                with self._stop.cut():
                    while True:
                        await self.copy(BLOCK_MS)
                        waits = backoff()
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    log.exception("intensities not copied, going on", partition=self._number)
                await self._stop.sleep(next(waits))

    async def copy(self, block_ms: int) -> None:
        """What there is to copy, some at a time; waits for something for so long."""
        raw: Any = await self._client.hget(self._mark, _COPIED)
        copied = "" if raw is None else raw.decode()
        reply = await self._reader.execute_command(
            *("XREAD", "COUNT", _PAGE, "BLOCK", block_ms, "STREAMS", self._source, copied or "0-0")
        )
        for _, entries in reply or ():
            change = Transaction().require_field(self._mark, _COPIED, copied)
            for _, fields in entries:
                change.add_entry(self._intensity, fields)
            change.set_fields(self._mark, {_COPIED: entries[-1][0].decode()})
            await self._committer.apply(change)
