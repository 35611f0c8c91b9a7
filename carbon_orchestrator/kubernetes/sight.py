"""What a Job and its pod tell of the attempt that they are: pure, of one moment."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from carbon_orchestrator.kubernetes.objects import ContainerStatus, Job, Pod

_STARTING = ("ContainerCreating", "PodInitializing")
#: Reasons that say no more than the exit code does.
_PLAIN = ("Completed", "Error", "")
_LONGEST = 300  # characters of what the cluster says


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """`idle`: none of its pods runs. `finished`: the Job has its last condition."""

    finished: bool = False
    idle: bool = False
    done: bool = False  # it came to a good end
    overdue: bool = False  # its time was up
    exit_code: int | None = None
    error: str | None = None  # one line for a person, where it ended badly
    pod: Pod | None = None
    writing: bool = False  # the main container has begun
    waiting: str = ""  # what it waits for, until then
    stuck: bool = False  # which will not come by waiting


def sight(job: Job, pods: Sequence[Pod], container: str) -> Sight:
    """Of a Job whose main container is called `container`."""
    pod = max(pods, key=_made, default=None)
    main = None if pod is None else _main(pod, container)
    failed = job.condition("Failed")
    ended = None if main is None else main.state.terminated
    exit_code = None if ended is None else ended.exit_code
    done = job.condition("Complete") is not None or (exit_code == 0 and failed is None)
    waiting, stuck = ("", False) if pod is None else _waiting(pod)
    if pod is None:
        waiting = "no pod was made for it; kubectl describe job says why"
    return Sight(
        finished=job.finished,
        idle=all(each.ended for each in pods),
        done=done,
        overdue=failed is not None and failed.reason == "DeadlineExceeded",
        exit_code=exit_code,
        error=None if done else _error(job, pod, main),
        pod=pod,
        writing=main is not None and main.state.begun,
        waiting=waiting,
        stuck=stuck,
    )


def reserved_ms(pod: Pod, cpus: float, now_ms: int) -> float:
    """CPU time, ms, that was set aside for a pod: `cpus` from its acceptance by a node until its
    last container's end, or until now."""
    begin = pod.status.start_time
    if begin is None:
        return 0.0
    ends = [
        each.state.terminated.finished_at.timestamp() * 1000
        for each in pod.containers
        if each.state.terminated is not None and each.state.terminated.finished_at is not None
    ]
    end = max(ends) if pod.ended and ends else now_ms
    return cpus * max(0.0, end - begin.timestamp() * 1000)


def _made(pod: Pod) -> float:
    made = pod.metadata.creation_timestamp
    return 0.0 if made is None else made.timestamp()


def _main(pod: Pod, name: str) -> ContainerStatus | None:
    return next((each for each in pod.status.container_statuses if each.name == name), None)


def _waiting(pod: Pod) -> tuple[str, bool]:
    for each in pod.containers:
        if (waiting := each.state.waiting) is not None and waiting.reason not in _STARTING:
            return _said(waiting.reason, waiting.message), bool(waiting.reason)
    unscheduled = pod.condition("PodScheduled", "False")
    if unscheduled is not None:
        return _said(unscheduled.reason, unscheduled.message), False
    return "its containers are being made", False


def _error(job: Job, pod: Pod | None, main: ContainerStatus | None) -> str | None:
    """Why it failed, by whoever knows best; None while it has not."""
    if pod is not None:
        if pod.status.reason:  # such as Evicted
            return _said(pod.status.reason, pod.status.message)
        if main is not None and (error := _exit_error(main)):
            return error
        disrupted = pod.condition("DisruptionTarget")
        if disrupted is not None and (pod.ended or job.finished):
            return _said(disrupted.reason, disrupted.message)
        for each in pod.containers:
            if error := _exit_error(each):
                return f"container {each.name}: {error}"
    failed = job.condition("Failed")
    return None if failed is None else _said(failed.reason, failed.message)


def _exit_error(container: ContainerStatus) -> str | None:
    ended = container.state.terminated
    if ended is None or ended.exit_code == 0:
        return None
    code = f"exit code {ended.exit_code}"
    return code if ended.reason in _PLAIN else _said(ended.reason, ended.message or code)


def _said(reason: str, message: str) -> str:
    words = " ".join(message.split())
    return (f"{reason}: {words}" if words else reason)[:_LONGEST]
