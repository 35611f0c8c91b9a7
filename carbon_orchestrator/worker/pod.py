"""Running an attempt as a batch/v1 Job of a Kubernetes cluster: one Job, one pod.

The Job's label names the attempt that it is, and is the lease there: who takes a job over from a
worker that died puts its own number on the Job that goes on, and whoever finds another's number
leaves it alone. To end it, however that comes, it is suspended: the pod gets SIGTERM and its
grace, and is seen to its end.

What changes is looked at as a whole each time, a watch tells only when: so that a watch that
is too old, broken off or was never begun costs a look more, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import anyio
import msgspec
import structlog

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.kubernetes.cluster import Cluster, ClusterError
from carbon_orchestrator.kubernetes.job_template import (
    ATTEMPT,
    JOB,
    Attempt,
    Template,
    job_of,
    secret_of,
)
from carbon_orchestrator.kubernetes.jobs import Jobs
from carbon_orchestrator.kubernetes.objects import Job, Pod
from carbon_orchestrator.kubernetes.pod_log import PodLog
from carbon_orchestrator.kubernetes.sight import Sight, reserved_ms, sight
from carbon_orchestrator.progress import Report, parse
from carbon_orchestrator.worker.attempt import Ended, StopReason, StopWatch
from carbon_orchestrator.worker.output import OutputTail
from streams.retry import backoff

log = structlog.get_logger(__name__)

#: What a line of the output begins with that says how far the job is.
PROGRESS = b"CARBON_PROGRESS "

# Seconds.
_STUCK = 60.0  # for which a pod's image, say, may be missing
_ENDING = 20.0  # beyond its grace, for the cluster to end a pod
_LOG_ENDING = 3.0  # for the last of the output to be there
_HEARING = 2.0  # for the word of a pod's end to arrive, when it is gone
_DELETING = 5.0
_APART = 0.1  # looks are at least, as several changes come together
_RUNNING, _STARTING, _STOPPING = 60.0, 5.0, 1.0  # between looks where nothing is heard


class _TakenOver(Exception):
    """The Job is another attempt's by now."""


async def run_pod(
    cluster: Cluster,
    template: Template,
    attempt: Attempt,
    payload: bytes,
    output: OutputTail,
    *,
    cancel: asyncio.Event,
    report: Callable[[Report], None] = lambda _: None,
) -> Ended:
    """Run an attempt; what its main container writes goes to `output`, and the lines of it that
    begin with PROGRESS to `report`.

    Ends at the latest its grace and half a minute after `cancel` is set, its timeout has passed or
    the caller is cancelled; the last is told by `stopped`, not raised. Never raises for the job's
    faults or the cluster's.
    """
    if not attempt.nameable:
        return Ended(error=f"the job's id {attempt.job_id[:80]!r} cannot be part of a Job's name")
    return await _Life(cluster, template, attempt, payload, output, report).run(cancel)


class _Life:
    """Of one attempt."""

    def __init__(
        self,
        cluster: Cluster,
        template: Template,
        attempt: Attempt,
        payload: bytes,
        output: OutputTail,
        report: Callable[[Report], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs = Jobs(cluster)
        self._template = template
        self._attempt = attempt
        self._payload = payload
        self._output = output
        self._report = report
        self._stopped: StopReason | None = None
        self._fault: str | None = None  # why we end it
        self._trouble = ""  # what the API server last did not do
        self._ending_by: float | None = None  # loop time; None: it is not to end
        self._pause = anyio.CancelScope()
        self._job: Job | None = None  # ours, as last seen
        self._let_go = False  # it has all that it needs, and was told to run
        self._gone = False
        self._sight = Sight()
        self._pod: Pod | None = None  # as last seen
        self._waits_for = ""  # as last told by its pod
        self._stuck_since: float | None = None
        self._hearing: asyncio.Task[None] | None = None  # how its pod ends
        self._log: tuple[PodLog, asyncio.Task[None]] | None = None

    async def run(self, cancel: asyncio.Event) -> Ended:
        task = asyncio.create_task(self._live())
        deadline = self._loop.time() + self._attempt.timeout
        watch = StopWatch(self._loop, cancel, deadline, self._stop)
        try:
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    if self._stopped == "interrupted":  # asked twice: no more grace
                        self._ending_by = self._loop.time()
                        self._pause.cancel()
                    self._stop("interrupted")
                    self._stopped = "interrupted"  # over or not: the caller has to hear of it
        finally:
            watch.close()
        return msgspec.structs.replace(task.result(), stopped=self._stopped_by())

    def _stop(self, reason: StopReason) -> None:
        if self._stopped is None:
            self._stopped = reason
            self._end()

    def _end(self) -> None:
        if self._ending_by is None:
            self._ending_by = self._loop.time() + self._attempt.grace + _ENDING
        self._pause.cancel()

    def _stopped_by(self) -> StopReason | None:
        return "timeout" if self._stopped is None and self._sight.overdue else self._stopped

    async def _live(self) -> Ended:
        waits = backoff(_APART, 5)
        try:
            while not (over := await self._tried()) and not self._out_of_time:
                if self._trouble:
                    await self._sleep(next(waits))
                else:
                    waits = backoff(_APART, 5)
        except _TakenOver:
            return Ended(error="another worker has taken it over")
        finally:
            if self._hearing is not None:
                self._hearing.cancel()
            await self._close_log()
        await self._tidy_up()
        return self._ended("" if over else self._trouble or "its pod does not end")

    @property
    def _out_of_time(self) -> bool:
        return self._ending_by is not None and self._loop.time() >= self._ending_by

    async def _tried(self) -> bool:
        """A step; where the API server does not take it, `_trouble` says why."""
        try:
            over = await self._step()
            self._trouble = ""
            return over
        except ClusterError as error:
            self._trouble = str(error)
            if error.status != 410:  # that is how a watch grows old
                log.warning(
                    "API server does not answer, going on", job=self._attempt.name, error=str(error)
                )
            refused = 400 <= error.status < 500 and error.status not in (408, 409, 410, 429)
            if refused and not self._let_go:
                self._fault = str(error)
                self._end()
                return self._job is None
            return False

    async def _step(self) -> bool:
        """One look, and what follows from it; whether it is over. Raises ClusterError."""
        if self._job is None:
            return await self._take_hold()
        if not self._let_go and self._ending_by is None:
            await self._begin(self._job)
        await self._look(self._job.metadata.name)
        if not self._let_go and self._ending_by is None and not self._gone:
            return False
        seen, job = self._sight, self._job
        if self._gone or (job.finished and seen.idle):
            return True
        if self._ending_by is not None:
            if job.spec.suspend and seen.idle:
                return True
            if not job.spec.suspend and not job.finished:
                self._hear_of_its_end()
                await self._jobs.patch(job, {"spec": {"suspend": True}})
        elif job.finished:  # of several that end, one lingers
            self._end()
        self._follow(seen)
        if self._stuck(seen):
            self._fault = f"its pod does not start: {seen.waiting}"
            self._end()
            return False
        await self._changed(job)
        return False

    # -- the Job -----------------------------------------------------------------------------------

    async def _take_hold(self) -> bool:
        """Of the Job that goes on from an earlier attempt, or of a new one; whether there is none,
        and none is wanted any more."""
        mine = self._attempt.number
        left = False
        for job in await self._jobs.all(self._attempt.selector):
            number = _number(job)
            if number > mine:
                raise _TakenOver
            if number == mine:
                self._job, self._let_go = job, not job.spec.suspend
                return False
            if _goes_on(job):
                change = {"metadata": {"labels": {ATTEMPT: str(mine)}}}
                self._job = await self._jobs.patch(job, change)
                self._let_go = self._job is not None
                log.info("Job taken over", job=job.metadata.name, attempt=mine)
                return False
            if not job.finished:
                left = True
                await self._jobs.delete(job, "Foreground")
        if left:  # its pod may still run: no two at a time
            self._waits_for = "what an earlier attempt left has not gone"
            await self._sleep(_STOPPING / 2)
            return False
        if self._ending_by is not None:
            return True
        self._job = await self._jobs.make(job_of(self._template, self._attempt))
        if self._job is None:  # made before, and the answer was lost
            there = await self._jobs.get(self._attempt.name)
            if there is not None and there.metadata.labels.get(JOB) != self._attempt.job_id:
                raise ClusterError(403, f"there is a Job {self._attempt.name} that is not ours")
            self._job = there
        return False

    async def _begin(self, job: Job) -> None:
        """Give it its payload, and let it go."""
        await self._jobs.make_secret(secret_of(self._attempt, self._payload, job.metadata.uid))
        changed = await self._jobs.patch(job, {"spec": {"suspend": False}})
        self._job, self._let_go = changed or job, changed is not None

    async def _look(self, name: str) -> None:
        job = await self._jobs.get(name)
        if job is None:
            self._gone = True
            self._sight = msgspec.structs.replace(
                self._sight, error="its Job was deleted by somebody else"
            )
            return
        if _number(job) != self._attempt.number:
            raise _TakenOver
        self._job = job
        pods = await self._jobs.pods(job, self._attempt.selector)
        if not pods and self._hearing is not None:
            await asyncio.wait([self._hearing], timeout=_HEARING)
        if not pods and self._pod is not None and self._pod.ended:
            pods = [self._pod]  # it went after its end
        self._sight = sight(job, pods, self._template.container)
        if self._pod is None or not self._pod.ended:
            self._pod = self._sight.pod or self._pod
        if self._ending_by is None or self._sight.pod is not None:
            self._waits_for = "" if self._sight.writing else self._sight.waiting

    def _hear_of_its_end(self) -> None:
        pod = self._pod
        if self._hearing is None and pod is not None and self._ending_by is not None:
            within = max(1.0, self._ending_by - self._loop.time())
            self._hearing = asyncio.create_task(self._hear(pod, within))

    async def _hear(self, pod: Pod, within: float) -> None:
        try:
            self._pod = await self._jobs.end(pod, within) or self._pod
        except ClusterError as error:
            log.info("the pod's end was not heard", job=self._attempt.name, error=str(error))

    async def _changed(self, job: Job) -> None:
        within = _RUNNING if self._sight.writing else _STARTING
        if self._ending_by is not None:
            within = min(_STOPPING, self._ending_by - self._loop.time())
        elif self._stuck_since is not None:
            within = min(within, self._stuck_since + _STUCK - self._loop.time())
        with anyio.move_on_after(max(0.0, within)) as self._pause:
            await self._jobs.changed(job, within)
        await asyncio.sleep(_APART)

    async def _sleep(self, length: float) -> None:
        with anyio.move_on_after(length) as self._pause:
            await anyio.sleep_forever()

    def _stuck(self, seen: Sight) -> bool:
        """Whether its pod has been unable to start for too long."""
        if not seen.stuck:
            self._stuck_since = None
            return False
        now = self._loop.time()
        if self._stuck_since is None:
            self._stuck_since = now
        return self._ending_by is None and now - self._stuck_since >= _STUCK

    # -- its output --------------------------------------------------------------------------------

    def _follow(self, seen: Sight) -> None:
        if self._log is None and seen.writing and seen.pod is not None:
            name = seen.pod.metadata.name
            follower = PodLog(self._jobs.cluster, name, self._template.container, self._write)
            self._log = follower, asyncio.create_task(follower.run())

    def _write(self, data: bytes) -> None:
        self._output.write(data)
        if PROGRESS in data:
            for line in reversed(data.split(b"\n")):
                said = line.removeprefix(PROGRESS)
                if said != line and (report := parse(said)) is not None:
                    self._report(report)
                    return

    async def _close_log(self) -> None:
        self._follow(self._sight)
        if self._log is None:
            return
        follower, task = self._log
        follower.end()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=_LOG_ENDING)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            log.info("the end of the output was not waited for", job=self._attempt.name)
        except Exception:
            log.exception("output lost", job=self._attempt.name)

    # -- the end -----------------------------------------------------------------------------------

    async def _tidy_up(self) -> None:
        """A Job that was ended is removed; one that has come to its end stays for its time."""
        job = self._job
        if job is None or self._gone or job.finished:
            return
        waits = backoff(_APART, 1)
        with anyio.move_on_after(_DELETING):
            while True:
                try:
                    await self._jobs.delete(job, "Background")
                    return
                except ClusterError as error:
                    log.warning("Job not removed", job=job.metadata.name, error=str(error))
                await asyncio.sleep(next(waits))

    def _ended(self, trouble: str) -> Ended:
        seen, error = self._sight, self._fault
        if error is None and not seen.done:
            error = seen.error
            if error is None and self._stopped_by() == "timeout" and self._waits_for:
                error = f"it waited: {self._waits_for}"
            elif error is None and self._stopped is None:
                error = "its Job ended, and does not say how"
        limitations = (f"its Job may still run: {trouble}",) if trouble else ()
        pod = self._pod
        return Ended(
            error=error,
            done=seen.done and self._fault is None,
            exit_code=seen.exit_code,
            reserved_ms=(0.0 if pod is None else reserved_ms(pod, self._template.cpus, wall_ms())),
            limitations=limitations,
        )


def _number(job: Job) -> int:
    """Of the attempt that a Job is; 0 where somebody has put something else there."""
    label = job.metadata.labels.get(ATTEMPT, "")
    return int(label) if label.isdecimal() else 0


def _goes_on(job: Job) -> bool:
    """Whether the next attempt can go on with it: it runs, or has come to a good end that nobody
    was there to record."""
    if job.metadata.deletion_timestamp is not None:
        return False
    return job.condition("Complete") is not None or not (job.finished or job.spec.suspend)
