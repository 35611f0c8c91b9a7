"""`GET /jobs/{id}/logs`: what a job has written, and writes."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from redis.asyncio import Redis

from carbon_orchestrator.gateway.door.guard import over
from carbon_orchestrator.gateway.lookup.jobs import Jobs
from carbon_orchestrator.gateway.lookup.log_tail import (
    ENTRIES,
    LogTail,
    Read,
    on_record,
)
from carbon_orchestrator.gateway.problems import problem
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.runtime import Runtime
from streams.byte_log import Piece, pieces, reading

_HEARTBEAT_SECONDS = 15.0
_NUMBER = re.compile(r"[0-9]{1,16}")
_MOST_OFFSET = (1 << 53) - 1
_TEXT, _LINES = "text/plain", "application/x-ndjson"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep it
    "X-Content-Type-Options": "nosniff",  # a browser must not take output for a page
}


class Logs:
    """`redis`: shared with others; `run` serves those who follow."""

    def __init__(self, runtime: Runtime, redis: Redis, jobs: Jobs) -> None:
        self._topology = runtime.topology
        self._stop = runtime.stop
        self._redis = redis
        self._jobs = jobs
        self._tail = LogTail(runtime.connect(), runtime.topology)

    async def run(self) -> None:
        """Until the stop."""
        await self._tail.run(self._stop)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The output from an offset on; with `follow`, until the job ends. An answer that ends
        before that is broken off, so that nobody takes it for whole."""
        found = await self._jobs.job_and_output(request)
        if found is None:
            return self._jobs.unknown()
        job, kept = found
        given = request.query.get("offset", "0")
        if not _NUMBER.fullmatch(given) or int(given) > _MOST_OFFSET:
            return problem(422, "invalid-query", "offset is a number of bytes", field="offset")
        follow = request.query.get("follow", "false")
        if follow not in ("true", "false"):
            return problem(422, "invalid-query", "follow is true or false", field="follow")
        # What is no longer kept cannot be told: it begins with what is.
        offset = max(int(given), kept[0] if kept else 0)
        lines = _LINES in request.headers.get("Accept", "")
        kind = _LINES if lines else f"{_TEXT}; charset=utf-8"
        headers = {**_HEADERS, "Content-Type": kind, "Carbon-Log-Offset": str(offset)}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        write = _Lines(response) if lines else _Text(response)
        whole = False
        try:
            with over(request).cut():
                if kept is None and job["state"] in TERMINAL:
                    await write(Piece(job["attempts"], offset, on_record(job)[offset:]))
                elif follow == "true":
                    await self._follow(job["id"], offset, write)
                else:
                    await self._kept(job["id"], offset, write)
                await write.end()
                whole = True
        except ConnectionResetError:
            pass  # the client is gone
        if not whole and (wire := request.transport) is not None:
            # What one who does not read has yet to get would be waited for.
            wire.abort() if wire.get_write_buffer_size() else wire.close()
        return response

    async def _kept(self, job_id: str, offset: int, write: _Text | _Lines) -> None:
        """What is there now, or nearly: what comes meanwhile is not waited for."""
        key, full = self._topology.output(job_id), True
        while full:
            rows = await self._redis.execute_command(*reading(key, offset, ENTRIES))
            for piece in pieces(rows, offset):
                await write(piece)
                offset = piece.end
            full = len(rows) == ENTRIES

    async def _follow(self, job_id: str, offset: int, write: _Text | _Lines) -> None:
        read = Read((), ended=False)
        while not read.ended:
            asking = asyncio.ensure_future(self._tail.next(job_id, offset))
            try:
                while not (await asyncio.wait([asking], timeout=_HEARTBEAT_SECONDS))[0]:
                    await write.heartbeat()
            finally:
                asking.cancel()
            read = asking.result()
            for piece in read.pieces:
                await write(piece)
                offset = piece.end


class _Text:
    """The bytes as they are."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._write: Callable[[bytes], Any] = response.write

    async def __call__(self, piece: Piece) -> None:
        """Raises ConnectionResetError."""
        await self._write(piece.data)

    async def heartbeat(self) -> None:
        """There is no byte that would say nothing."""

    async def end(self) -> None:
        """Nothing is held back."""


class _Lines:
    """JSON lines with the attempt, the offsets of the first byte and after the last, and the text;
    empty ones as signs of life. Characters are never split; what is no UTF-8 becomes U+FFFD."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._write: Callable[[bytes], Any] = response.write
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._last = Piece(0, 0, b"")
        self._held = 0  # bytes of a character that is not whole yet

    async def __call__(self, piece: Piece) -> None:
        """Raises ConnectionResetError."""
        if piece.writer != self._last.writer or piece.offset != self._last.end:
            await self.end()
        start = piece.offset - self._held
        text = self._decoder.decode(piece.data)
        self._held = len(self._decoder.getstate()[0])
        self._last = piece
        await self._tell(piece.writer, start, piece.end - self._held, text)

    async def _tell(self, attempt: int, offset: int, end: int, text: str) -> None:
        if text:
            line = {"attempt": attempt, "offset": offset, "end": end, "text": text}
            await self._write(msgspec.json.encode(line) + b"\n")

    async def heartbeat(self) -> None:
        await self._write(b"\n")

    async def end(self) -> None:
        """Tell what is left of a character."""
        text = self._decoder.decode(b"", final=True)
        held, self._held = self._held, 0
        self._decoder.reset()
        await self._tell(self._last.writer, self._last.end - held, self._last.end, text)
