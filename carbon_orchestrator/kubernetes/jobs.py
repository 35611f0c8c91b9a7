"""The batch/v1 Jobs of a namespace, their pods, and the Secrets that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import urlencode

from carbon_orchestrator.kubernetes.cluster import MERGE_PATCH, Cluster, ClusterError
from carbon_orchestrator.kubernetes.objects import Job, JobList, Pod, PodList, read

_PAGE = "200"  # Jobs that are asked for at a time


class Jobs:
    """All of it raises ClusterError."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        namespace = cluster.access.namespace
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._core = f"/api/v1/namespaces/{namespace}"

    async def all(self, labels: Mapping[str, str]) -> list[Job]:
        """Those with the labels."""
        found: list[Job] = []
        page = JobList()
        while True:
            query = {**_selecting(labels), "limit": _PAGE}
            if page.metadata.next:
                query["continue"] = page.metadata.next
            answer = await self.cluster.request("GET", f"{self._jobs}?{urlencode(query)}")
            page = read(answer, JobList)
            found += page.items or []
            if not page.metadata.next:
                return found

    async def get(self, name: str) -> Job | None:
        try:
            return read(await self.cluster.request("GET", f"{self._jobs}/{name}"), Job)
        except ClusterError as error:
            if error.status != 404:
                raise
            return None

    async def pods(self, job: Job, labels: Mapping[str, str]) -> list[Pod]:
        """Those of the Job among the pods with the labels."""
        answer = await self.cluster.request(
            "GET", f"{self._core}/pods?{urlencode(_selecting(labels))}"
        )
        return [
            pod
            for pod in read(answer, PodList).items or []
            if any(owner.uid == job.metadata.uid for owner in pod.metadata.owner_references)
        ]

    async def make(self, manifest: dict[str, Any]) -> Job | None:
        """None where it is there already, or something besides has changed meanwhile."""
        try:
            return read(await self.cluster.request("POST", self._jobs, manifest), Job)
        except ClusterError as error:
            if error.status != 409:
                raise
            return None

    async def make_secret(self, manifest: dict[str, Any]) -> None:
        """Unless it is there."""
        try:
            await self.cluster.request("POST", f"{self._core}/secrets", manifest)
        except ClusterError as error:
            if error.status != 409:
                raise

    async def patch(self, job: Job, change: dict[str, dict[str, Any]]) -> Job | None:
        """Change a Job that is as it was seen; None where it is not, or gone."""
        seen = {"resourceVersion": job.metadata.resource_version}
        body = {**change, "metadata": {**change.get("metadata", {}), **seen}}
        try:
            path = f"{self._jobs}/{job.metadata.name}"
            return read(await self.cluster.request("PATCH", path, body, MERGE_PATCH), Job)
        except ClusterError as error:
            if error.status not in (404, 409):
                raise
            return None

    async def delete(self, job: Job, propagation: Literal["Foreground", "Background"]) -> None:
        """Just this one, and with it what it owns; "Foreground": it stays until that is gone."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {"uid": job.metadata.uid},
        }
        try:
            await self.cluster.request("DELETE", f"{self._jobs}/{job.metadata.name}", options)
        except ClusterError as error:
            if error.status not in (404, 409):
                raise

    async def changed(self, job: Job, within: float) -> None:
        """Wait until it is no longer as it was seen, `within` seconds at most; with the status 410
        where that is too long ago to wait from."""
        seen = job.metadata
        async with aclosing(
            self.cluster.watch(self._jobs, seen.name, seen.resource_version, within)
        ) as events:
            async for _ in events:
                return

    async def end(self, pod: Pod, within: float) -> Pod | None:
        """The pod as it ended, or else as it last was; None where it did neither `within` seconds.

        Of a Job that is suspended, pods go at their end, and the Job says nothing of it.
        """
        seen = pod.metadata
        async with aclosing(
            self.cluster.watch(f"{self._core}/pods", seen.name, seen.resource_version, within)
        ) as events:
            async for event in events:
                found = read(event.object, Pod)
                if found.ended or event.type == "DELETED":
                    return found
        return None


def _selecting(labels: Mapping[str, str]) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{name}={value}" for name, value in labels.items())}
