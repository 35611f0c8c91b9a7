"""Leadership by a Kubernetes Lease, as client-go elects: who holds it renews it, and who sees it
unrenewed for its whole duration takes it. No two machines' clocks are compared.

The Lease is made by the manifests, so that the Role needs get and update of this one only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.kubernetes.cluster import Cluster, ClusterError

log = structlog.get_logger(__name__)

#: Seconds for which a leader that fell silent is waited for; it stops itself somewhat earlier.
DURATION = 15.0
_GIVE_UP = 10.0
_RENEW = 5.0


class Leadership:
    """One candidate. `clock`: seconds, steady."""

    def __init__(
        self,
        cluster: Cluster,
        lease: str,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        duration: float = DURATION,
    ) -> None:
        self._cluster = cluster
        self._path = (
            f"/apis/coordination.k8s.io/v1/namespaces/{cluster.access.namespace}/leases/{lease}"
        )
        self._identity = identity
        self._clock = clock
        self._duration = duration
        self._seen: str | None = None  # the Lease's version, and since when it is that
        self._seen_at = 0.0
        self._renewed_at: float | None = None  # None: not the leader

    async def held(self) -> bool:
        """Whether we lead; renews, or tries to become the leader, where it is time.

        Raises ClusterError where the Lease cannot be read or written by us.
        """
        now = self._clock()
        share = self._duration / DURATION
        if self._renewed_at is not None and now - self._renewed_at < _RENEW * share:
            return True
        try:
            won = await self._try(now)
        except ClusterError as error:
            # We still lead for as long as nobody else may begin to.
            if self._renewed_at is not None and now - self._renewed_at < _GIVE_UP * share:
                log.warning("lease not renewed", error=str(error))
                return True
            self._renewed_at = None
            raise
        if won != (self._renewed_at is not None):
            log.info("leading" if won else "standing by", lease=self._path.rpartition("/")[2])
        self._renewed_at = now if won else None
        return won

    async def release(self) -> None:
        """Let another lead at once. Raises ClusterError."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        lease = await self._cluster.request("GET", self._path)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self._identity:
            spec = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            await self._cluster.request("PUT", self._path, {**lease, "spec": spec})

    async def _try(self, now: float) -> bool:
        lease = await self._cluster.request("GET", self._path)
        spec: Mapping[str, Any] = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        # Each renewal gives it another version, whatever the times in it say.
        version = (lease.get("metadata") or {}).get("resourceVersion")
        if version != self._seen:
            self._seen, self._seen_at = version, now
        duration = float(spec.get("leaseDurationSeconds") or self._duration)
        if holder not in ("", self._identity) and now - self._seen_at < duration:
            return False
        mine = {**spec, "holderIdentity": self._identity, "renewTime": _now()}
        mine["leaseDurationSeconds"] = max(1, round(self._duration))
        if holder != self._identity:
            mine["acquireTime"] = mine["renewTime"]
            mine["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        try:
            # With the version that was read: whoever comes second is refused.
            await self._cluster.request("PUT", self._path, {**lease, "spec": mine})
        except ClusterError as error:
            if error.status == 409:
                return False
            raise
        return True


def _now() -> str:
    """As Kubernetes writes times of leases."""
    moment = datetime.fromtimestamp(wall_ms() / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
