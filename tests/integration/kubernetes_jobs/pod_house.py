"""Deployments whose jobs run in a cluster, and what tests ask of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployment import Deployment
from job_cluster import JobCluster

from carbon_orchestrator.config import JobType, Kubernetes
from streams.testing import until

TEMPLATE = """
apiVersion: batch/v1
kind: Job
metadata:
  labels: { team: research }
spec:
  template:
    spec:
      containers:
        - name: main
          image: registry.example.org/train:1
          env:
            - { name: DATA, value: /data/$(CARBON_JOB_ID) }
            - { name: CARBON_FENCE, value: forged }
          resources: { requests: { cpu: 500m } }
        - name: logs
          image: registry.example.org/logs:1
          resources: { requests: { cpu: "1.5" } }
      volumes:
        - name: checkpoints
          persistentVolumeClaim: { claimName: checkpoints }
"""


def settings(api: JobCluster, template: Path, **more: Any) -> dict[str, Any]:
    """Fields of a configuration with a job type `train`; `more`: fields of it."""
    fields: dict[str, Any] = {"timeout": 30, "grace": 1, "expected_duration": 0.01, **more}
    return {
        "types": {"train": JobType(kubernetes=str(template), env={"EPOCHS": "3"}, **fields)},
        "kubernetes": Kubernetes(
            api_server=api.url, namespace="jobs", token_file=str(api.token_file)
        ),
    }


async def begun(house: Deployment, **fields: Any) -> str:
    """A job that is with a worker."""
    job_id = await house.post("train", **{"urgency": "urgent", **fields})
    await house.reach(job_id, "running")
    return job_id


async def podded(api: JobCluster, job_id: str, *, start: bool = True) -> str:
    """The job's pod, which runs."""
    name = await until(lambda: api.pod_of(job_id))
    assert name is not None
    if start:
        api.begin(name)
    return name


def job_object(api: JobCluster, job_id: str) -> Any:
    (found,) = [
        each
        for each in api.jobs.values()
        if each["metadata"]["labels"]["carbon-orchestrator/job"] == job_id
    ]
    return found
