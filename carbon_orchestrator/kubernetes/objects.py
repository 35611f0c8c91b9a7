"""What we read of a cluster's objects: batch/v1 Jobs, v1 Pods. All else in them is passed over.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/ and …/pod-v1/
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from carbon_orchestrator.kubernetes.cluster import ClusterError


class _Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    pass


class Owner(_Part, frozen=True):
    uid: str


class Metadata(_Part, frozen=True):
    name: str
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    owner_references: list[Owner] = []
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Condition(_Part, frozen=True):
    type: str
    status: str  # "True", "False", "Unknown"
    reason: str = ""
    message: str = ""


class JobSpec(_Part, frozen=True):
    suspend: bool = False


class JobStatus(_Part, frozen=True):
    conditions: list[Condition] = []


class Job(_Part, frozen=True):
    metadata: Metadata
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    def condition(self, kind: str) -> Condition | None:
        """The condition "Complete" or "Failed", where it holds."""
        return _holding(self.status.conditions, kind)

    @property
    def finished(self) -> bool:
        return self.condition("Complete") is not None or self.condition("Failed") is not None


class Waiting(_Part, frozen=True):
    reason: str = ""
    message: str = ""


class Terminated(_Part, frozen=True):
    exit_code: int
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class ContainerState(_Part, frozen=True):
    waiting: Waiting | None = None
    running: dict[str, Any] | None = None
    terminated: Terminated | None = None

    @property
    def begun(self) -> bool:
        return self.running is not None or self.terminated is not None


class ContainerStatus(_Part, frozen=True):
    name: str
    state: ContainerState = ContainerState()


class PodStatus(_Part, frozen=True):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: list[Condition] = []
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []


class Pod(_Part, frozen=True):
    metadata: Metadata
    status: PodStatus = PodStatus()

    def condition(self, kind: str, status: str = "True") -> Condition | None:
        """Such as "PodScheduled" or "DisruptionTarget", where it has the status."""
        return _holding(self.status.conditions, kind, status)

    @property
    def ended(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def containers(self) -> list[ContainerStatus]:
        """Of all kinds."""
        return [*self.status.init_container_statuses, *self.status.container_statuses]


class ListMetadata(_Part, frozen=True):
    next: str = msgspec.field(name="continue", default="")


class JobList(_Part, frozen=True):
    metadata: ListMetadata = ListMetadata()
    items: list[Job] | None = None


class PodList(_Part, frozen=True):
    items: list[Pod] | None = None


T = TypeVar("T")


def read(answer: Mapping[str, Any], kind: type[T]) -> T:
    """An answer of the API server. Raises ClusterError where it is none of the kind."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ClusterError(0, f"the API server's answer is no {kind.__name__}: {error}") from None


def _holding(conditions: list[Condition], kind: str, status: str = "True") -> Condition | None:
    return next((each for each in conditions if (each.type, each.status) == (kind, status)), None)
