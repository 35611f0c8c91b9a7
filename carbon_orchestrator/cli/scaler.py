"""`scaler`: pools that grow and shrink with what waits for them and with the grid's carbon."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.cli.roles import (
    DEFAULT_REDIS,
    ConfigFile,
    LogLevel,
    ProbePort,
    Redis,
    guarded,
    serve,
)
from carbon_orchestrator.data_dir import default_data_dir
from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.runtime import Runtime

ActuatorName = Literal["local", "kubernetes", "dry-run"]


def scaler(
    *,
    actuator: ActuatorName = "dry-run",
    pool: Annotated[list[Pool] | None, Parameter(negative="")] = None,
    zone: str | None = None,
    data: Path | None = None,
    namespace: str | None = None,
    deployment: Annotated[list[str] | None, Parameter(negative="")] = None,
    lease: str = "carbon-orchestrator-scaler",
    api_server: str | None = None,
    token_file: Path | None = None,
    ca_file: Path | None = None,
    redis: Redis = DEFAULT_REDIS,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
    probe_port: ProbePort = None,
) -> None:
    """Size the pools of a zone by backlog and carbon.

    Parameters
    ----------
    actuator
        "local": worker processes of this machine; "kubernetes": the replicas of Deployments;
        "dry-run": change nothing, and print what would be done.
    pool
        "fast" or "eco"; repeated; by default all of the zone.
    zone
        Whose pools; by default the home zone's.
    data
        Directory for the checkpoints of local workers.
    namespace
        Of the Deployments; by default the pod's own.
    deployment
        POOL=NAME, repeated; by default worker-POOL.
    lease
        Name of the Lease by which scalers of a cluster agree who works.
    api_server
        URL of the Kubernetes API, outside of a cluster.
    token_file
        File with the token to show there.
    ca_file
        File of the certificates that sign the API server's.
    """
    names = _deployments(deployment or [])

    async def part(runtime: Runtime) -> Callable[[], Coroutine[Any, Any, None]]:
        from carbon_orchestrator.scaler.component import ScalerRole, away_zone
        from carbon_orchestrator.worker.guardian import Guardian

        chosen = list(pool or [])
        if actuator == "local":
            from carbon_orchestrator.scaler.local import scaler_of_processes

            guardian = Guardian()
            guardian.start()
            folder = data or default_data_dir()
            role = scaler_of_processes(
                runtime, guardian, folder, config, pools=chosen, zone=zone, log_level=log_level
            )
            return guarded(guardian, role)
        if actuator == "kubernetes":
            from carbon_orchestrator.kubernetes.cluster import Access, Cluster
            from carbon_orchestrator.scaler.kubernetes import Deployments
            from carbon_orchestrator.scaler.leadership import Leadership

            access = Access.find(api_server, namespace, token_file, ca_file)
            cluster = Cluster(access)
            name = runtime.consumer_name("scaler")
            workers = Deployments(cluster, Leadership(cluster, lease, name), names)
            return ScalerRole(runtime, workers, pools=chosen, zone=zone, name=name).run

        from carbon_orchestrator.scaler.actuator import DryRun

        live_ms = round(runtime.config.lease_s * 2000)
        away = away_zone(runtime, zone)
        trial = DryRun(runtime.connect(), runtime.topology, away, live_ms, _tell)
        return ScalerRole(runtime, trial, pools=chosen, zone=zone).run

    serve(redis, config, log_level, part, probe_port=probe_port, by_the_clock=actuator != "dry-run")


def _deployments(given: list[str]) -> dict[Pool, str]:
    """Names by pool. Raises Failure."""
    names: dict[Pool, str] = {pool: f"worker-{pool}" for pool in POOLS}
    for each in given:
        name, equals, deployment = each.partition("=")
        found = [pool for pool in POOLS if pool == name]
        if not (equals and found and deployment.replace("-", "").replace(".", "").isalnum()):
            raise Failure(f"--deployment {each}: write POOL=NAME, such as eco=worker-eco", USAGE)
        names[found[0]] = deployment
    return names


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201
