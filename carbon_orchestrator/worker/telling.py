"""What running jobs write and how far they are, told to the server: of all jobs of this worker
together, a few times a second at most, and outside of every commit.

Whoever writes and reports nothing costs nothing. While the server is away, jobs go on, and the
last of their output waits in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog
from redis.asyncio import Redis

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.progress import Progress, Report, encode
from carbon_orchestrator.topology import Topology
from carbon_orchestrator.worker.output import OutputTail
from streams.byte_log import LONGEST, Addition, append
from streams.errors import is_transient

log = structlog.get_logger(__name__)

_PAUSE = 0.5  # seconds between two rounds
_ENDING = 1.0  # seconds that the end of an attempt waits for its last output to be there
#: Bytes of output in one round, or an entry of each job where that is more; and in one call.
_ROUND, _CALL = 1 << 20, 1 << 20
#: What belongs to a running job is kept so long beyond the last renewal, and renewed so often, s.
_PROGRESS_KEPT, _OUTPUT_KEPT, _RENEWED = 3600, 30 * 86400, 900.0
#: Output that is on the job's record, too, is there for those who follow only, s. A log takes 4 KiB
#: of the server's memory however little is in it.
_ON_RECORD_KEPT = 600
#: What is left of ended attempts while the server is away: their output, and what to tidy up.
_MOST_LEFT, _MOST_CLOSED = 100, 100_000


class Telling:
    """What one attempt writes and reports. `report` may be called in any thread."""

    __slots__ = (
        "_now",
        "attempt",
        "final",
        "job_id",
        "output",
        "progress",
        "renew_at",
        "superseded",
        "told",
        "written",
    )

    def __init__(
        self,
        output: OutputTail,
        job_id: str = "",
        attempt: int = 0,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        self.output = output
        self.job_id = job_id
        self.attempt = attempt
        self.progress: Progress | None = None
        self.written = 0  # bytes of the output that the server has
        self.told: Progress | None = None  # the progress that it has
        self.superseded = False  # a later attempt has written
        self.final = False  # it was the job's last
        self.renew_at = time.monotonic() + _RENEWED
        self._now = now

    def report(self, report: Report) -> None:
        """Take note of how far it is."""
        at = self._now()
        before = self.progress or Progress(at=at)
        self.progress = before.then(report, at)


class Tellings:
    """Of all attempts of a worker. `redis`: used by nobody else."""

    def __init__(
        self, redis: Redis, topology: Topology, config: Config, now: Callable[[], int]
    ) -> None:
        self._redis = redis
        self._topology = topology
        self._now = now
        self._tail, self._keep = config.limits.output_tail, config.limits.output
        self._retention = max(1, round(seconds(config.retention.jobs)))
        self._kept = max(_OUTPUT_KEPT, self._retention)  # of a job that has not ended
        self._running: set[Telling] = set()
        self._left: deque[Telling] = deque(maxlen=_MOST_LEFT)
        self._closed: deque[Telling] = deque(maxlen=_MOST_CLOSED)
        self._wanted = asyncio.Event()
        self._round_over = asyncio.Event()
        self._stopping = False

    def begin(self, job_id: str, attempt: int) -> Telling:
        """Of an attempt that begins."""
        telling = Telling(OutputTail(self._tail, self._keep), job_id, attempt, self._now)
        self._running.add(telling)
        return telling

    async def finish(self, telling: Telling) -> None:
        """The attempt is over, and is about to be recorded: whoever sees its end is to find its
        output, so wait for that a little."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                while self._has_output(telling):
                    self._wanted.set()
                    await self._round_over.wait()

    def end(self, telling: Telling, *, lost: bool, final: bool) -> None:
        """The attempt is over. `lost`: it counts no more, as another has taken its place;
        `final`: its end was that of the job."""
        self._running.discard(telling)
        telling.superseded |= lost
        telling.final = final
        if self._has_output(telling):
            self._left.append(telling)
        elif telling.written or telling.told is not None:
            self._closed.append(telling)

    def stop(self) -> None:
        """Tell what is left, and be done."""
        self._stopping = True
        self._wanted.set()

    async def run(self) -> None:
        """Until it is stopped."""
        while not self._stopping:
            try:
                await self._round()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), _PAUSE)
            except Exception as error:
                if not is_transient(error):
                    log.exception("telling what jobs write failed, going on")
                await asyncio.sleep(_PAUSE)
            self._wanted.clear()
        try:
            async with asyncio.timeout(5):
                await self._round()
                while self._left or self._closed:
                    await self._round()
        except Exception as error:
            log.info("what jobs wrote last was not kept", error=str(error))

    # -- one round -------------------------------------------------------------------------------

    def _has_output(self, telling: Telling) -> bool:
        return self._keep > 0 and telling.written < telling.output.total and not telling.superseded

    async def _round(self) -> None:
        """Tell what is new."""
        try:
            await self._tell_output()
            await self._tell_progress()
        finally:
            over, self._round_over = self._round_over, asyncio.Event()
            over.set()

    async def _tell_output(self) -> None:
        # Earlier attempts of a job come first: once a later one has written, they cannot.
        having = [each for each in [*self._left, *self._running] if self._has_output(each)]
        share = max(LONGEST, _ROUND // max(1, len(having)))
        additions: list[tuple[Telling, Addition]] = []
        size = 0
        for telling in having:
            written, until = telling.written, telling.written + share
            while written < min(telling.output.total, until):
                start, data = telling.output.since(written, LONGEST)
                additions.append((telling, Addition(telling.attempt, start, data)))
                written, size = start + len(data), size + len(data)
                if size >= _CALL:
                    await self._append(additions)
                    additions, size = [], 0
        await self._append(additions)
        for telling in [each for each in self._left if not self._has_output(each)]:
            self._left.remove(telling)
            self._closed.append(telling)

    async def _append(self, additions: list[tuple[Telling, Addition]]) -> None:
        if not additions:
            return
        logs = [(self._topology.output(each.job_id), addition) for each, addition in additions]
        ends = await append(self._redis, logs, self._keep, self._kept * 1000)
        for (telling, addition), end in zip(additions, ends, strict=True):
            telling.written = addition.offset + len(addition.data)
            telling.superseded |= end is None
            telling.output.release(telling.written)

    async def _tell_progress(self) -> None:
        """And renew what belongs to running jobs, and tidy up after those that have ended."""
        now = time.monotonic()
        told: list[tuple[Telling, Progress | None]] = []
        renewed: list[Telling] = []
        closed = [self._closed[place] for place in range(min(len(self._closed), 1000))]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for each in self._running:
                progress = each.progress
                due = now >= each.renew_at and (progress is not None or each.written > 0)
                if each.superseded or not (due or progress is not each.told):
                    continue
                if progress is not None:
                    key = self._topology.progress(each.job_id, each.attempt)
                    pipeline.set(key, encode(progress), ex=_PROGRESS_KEPT)
                if due and each.written:
                    pipeline.expire(self._topology.output(each.job_id), self._kept)
                told.append((each, progress))
                if due:
                    renewed.append(each)
            for each in closed:
                if each.told is not None:
                    pipeline.delete(self._topology.progress(each.job_id, each.attempt))
                if each.final and each.written:
                    on_record = each.attempt == 1 and each.output.whole
                    kept = min(self._retention, _ON_RECORD_KEPT) if on_record else self._retention
                    pipeline.expire(self._topology.output(each.job_id), kept)
            if pipeline.command_stack:
                await pipeline.execute()
        for each, progress in told:
            each.told = progress
        for each in renewed:
            each.renew_at = now + _RENEWED
        for _ in closed:
            self._closed.popleft()
