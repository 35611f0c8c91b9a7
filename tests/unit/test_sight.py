"""What a Job and its pod tell of the attempt that they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from carbon_orchestrator.kubernetes.objects import Job, Pod
from carbon_orchestrator.kubernetes.sight import reserved_ms, sight

BEGAN, AT, ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z", "2026-01-01T00:00:10Z"
BEGAN_MS = 1_767_225_600_000


def job(*conditions: tuple[str, str, str], suspend: bool = False) -> Job:
    """A Job with conditions: type, reason, message."""
    return msgspec.convert(
        {
            "metadata": {"name": "j"},
            "spec": {"suspend": suspend},
            "status": {
                "conditions": [
                    {"type": kind, "status": "True", "reason": reason, "message": message}
                    for kind, reason, message in conditions
                ]
            },
        },
        Job,
    )


def pod(phase: str = "Running", *states: Any, **status: Any) -> Pod:
    """A pod whose containers `main`, `side` are in the states."""
    statuses = [
        {"name": name, "state": state}
        for name, state in zip(("main", "side"), states, strict=False)
    ]
    return msgspec.convert(
        {
            "metadata": {"name": "p"},
            "status": {
                "phase": phase,
                "startTime": BEGAN,
                "containerStatuses": statuses,
                **status,
            },
        },
        Pod,
    )


def ended(code: int, reason: str = "Error", at: str = ENDED, **more: str) -> Any:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at, **more}}


RUNNING: Any = {"running": {}}
COMPLETE = ("Complete", "", "")
LIMIT = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
LATE = ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")


def test_a_job_without_a_pod_waits_for_one() -> None:
    seen = sight(job(), [], "main")
    assert (seen.idle, seen.finished, seen.done, seen.writing) == (True, False, False, False)
    assert seen.waiting.startswith("no pod was made for it")
    assert (seen.error, seen.stuck) == (None, False)


def test_a_pod_that_runs_has_output() -> None:
    seen = sight(job(), [pod("Running", RUNNING)], "main")
    assert (seen.idle, seen.writing, seen.done, seen.error) == (False, True, False, None)
    assert not sight(job(), [pod("Pending", {})], "main").writing


def test_a_good_end() -> None:
    seen = sight(job(COMPLETE), [pod("Succeeded", ended(0, "Completed"))], "main")
    assert (seen.finished, seen.idle, seen.done, seen.exit_code) == (True, True, True, 0)
    assert seen.error is None
    # Its pod may be gone by the time that one looks.
    assert sight(job(COMPLETE), [], "main").done


@pytest.mark.parametrize(
    ("conditions", "pods", "error"),
    [
        ([LIMIT], [pod("Failed", ended(3))], "exit code 3"),
        ([LIMIT], [pod("Failed", ended(137, "OOMKilled"))], "OOMKilled: exit code 137"),
        (
            [LIMIT],
            [pod("Failed", ended(128, "StartError", message='exec: "x":\n not found'))],
            'StartError: exec: "x": not found',
        ),
        (
            [LIMIT],
            [pod("Failed", ended(137), reason="Evicted", message="low on memory")],
            "Evicted: low on memory",
        ),
        ([LIMIT], [pod("Failed", ended(0), ended(2))], "container side: exit code 2"),
        (
            [LIMIT],
            [
                pod(
                    "Failed",
                    conditions=[
                        {
                            "type": "DisruptionTarget",
                            "status": "True",
                            "reason": "DeletionByTaintManager",
                            "message": "the node is gone",
                        }
                    ],
                )
            ],
            "DeletionByTaintManager: the node is gone",
        ),
        ([LIMIT], [], f"BackoffLimitExceeded: {LIMIT[2]}"),
        ([LATE], [], f"DeadlineExceeded: {LATE[2]}"),
    ],
)
def test_a_bad_end_is_explained_by_who_knows_best(
    conditions: list[tuple[str, str, str]], pods: list[Pod], error: str
) -> None:
    seen = sight(job(*conditions), pods, "main")
    assert (seen.error, seen.done) == (error, False)
    assert seen.overdue == (conditions == [LATE])


def test_a_job_has_failed_however_its_main_container_ended() -> None:
    assert not sight(job(LIMIT), [pod("Failed", ended(0), ended(1))], "main").done


@pytest.mark.parametrize(
    ("made", "waiting", "stuck"),
    [
        (pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), "are being made", False),
        (
            pod("Pending", {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
            "ErrImagePull: no such image",
            True,
        ),
        (pod("Pending", RUNNING, {"waiting": {"reason": "ImagePullBackOff"}}), "BackOff", True),
        (
            pod(
                "Pending",
                initContainerStatuses=[
                    {"name": "i", "state": {"waiting": {"reason": "InvalidImageName"}}}
                ],
            ),
            "InvalidImageName",
            True,
        ),
        (
            pod(
                "Pending",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes",
                    }
                ],
            ),
            "Unschedulable: 0/3 nodes",
            False,
        ),
    ],
)
def test_what_a_pod_waits_for(made: Pod, waiting: str, stuck: bool) -> None:
    seen = sight(job(), [made], "main")
    assert seen.waiting.endswith(waiting)
    assert seen.stuck == stuck


def test_the_time_of_a_pod_is_from_its_node_to_its_last_container() -> None:
    now = BEGAN_MS + 60_000
    assert reserved_ms(pod("Running", RUNNING), 2, now) == 120_000
    assert reserved_ms(pod("Failed", ended(1), ended(0, at=AT)), 2, now) == 20_000
    assert reserved_ms(pod("Failed"), 2, now) == 120_000, "nobody says when it ended"
    assert reserved_ms(pod("Pending", startTime=None), 2, now) == 0
    assert reserved_ms(pod("Running", RUNNING), 2, BEGAN_MS - 5) == 0, "clocks differ"
