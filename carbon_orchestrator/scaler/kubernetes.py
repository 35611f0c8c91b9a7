"""Workers as pods: a Deployment a pool, whose scale is patched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import structlog

from carbon_orchestrator.events import Pool
from carbon_orchestrator.kubernetes.cluster import MERGE_PATCH, Cluster, ClusterError
from carbon_orchestrator.scaler.actuator import ActuatorError, Contended
from carbon_orchestrator.scaler.leadership import Leadership

log = structlog.get_logger(__name__)

#: A Deployment's version changes with its pods, too: so often it is read and patched again.
_TRIES = 5


class Deployments:
    """`names`: the Deployment of each pool."""

    name = "kubernetes"
    shared = True
    dry = False

    def __init__(self, cluster: Cluster, leadership: Leadership, names: Mapping[Pool, str]) -> None:
        self._cluster = cluster
        self._leadership = leadership
        self._names = dict(names)

    async def leading(self) -> bool:
        with _told():
            return await self._leadership.held()

    async def size(self, pool: Pool) -> int:
        with _told():
            return _replicas(await self._scale(pool))

    async def scale(
        self, pool: Pool, current: int, size: int, busy: frozenset[str], reason: str
    ) -> None:
        for _ in range(_TRIES):
            with _told():
                found = await self._scale(pool)
            if _replicas(found) != current:
                raise Contended(
                    f"{self._names[pool]} has been set to {_replicas(found)} by somebody else"
                    f" while it was to go from {current} to {size}"
                )
            version = (found.get("metadata") or {}).get("resourceVersion")
            patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": size}}
            try:
                await self._cluster.request("PATCH", self._path(pool), patch, MERGE_PATCH)
                return
            except ClusterError as error:
                if error.status != 409:
                    raise ActuatorError(str(error)) from error
        raise ActuatorError(f"{self._names[pool]} changed all the time; it is tried again")

    async def stand_by(self, pools: Sequence[Pool]) -> None:
        """The pods stay as they are."""

    async def aclose(self) -> None:
        try:
            with anyio.fail_after(5):
                await self._leadership.release()
        except (ClusterError, TimeoutError) as error:
            log.info("left without saying so", error=str(error))
        await self._cluster.aclose()

    def _path(self, pool: Pool) -> str:
        namespace = self._cluster.access.namespace
        return f"/apis/apps/v1/namespaces/{namespace}/deployments/{self._names[pool]}/scale"

    async def _scale(self, pool: Pool) -> dict[str, Any]:
        return await self._cluster.request("GET", self._path(pool))


@contextmanager
def _told() -> Iterator[None]:
    """What the API server refuses is the actuator's error."""
    try:
        yield
    except ClusterError as error:
        raise ActuatorError(str(error)) from error


def _replicas(scale: Mapping[str, Any]) -> int:
    """The size asked for; the API leaves a zero out."""
    return int((scale.get("spec") or {}).get("replicas", 0))
