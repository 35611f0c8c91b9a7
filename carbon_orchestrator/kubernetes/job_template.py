"""The operator's template of a Job, and what an attempt of a job makes of it. Pure but for `load`.

The template says what runs and where: image, resources, volumes, nodes. All that makes it one
attempt of one job (its name, timeout, grace, a single pod that is never started again) is set
here, and refused in the template, so that each has one home.
"""

from __future__ import annotations

import base64
import copy
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from carbon_orchestrator.config import ConfigError

#: Jobs' labels, and in part their pods'.
JOB = "carbon-orchestrator/job"
ATTEMPT = "carbon-orchestrator/attempt"
DEPLOYMENT = "carbon-orchestrator/deployment"
_TYPE, _POOL, _PROJECT = (f"carbon-orchestrator/{name}" for name in ("type", "pool", "project"))
_MAIN = "kubectl.kubernetes.io/default-container"

#: A volume of this name is where the template's pods keep their checkpoints.
CHECKPOINTS = "checkpoints"
_CHECKPOINT_DIR = "/var/lib/carbon/checkpoints"
_PAYLOAD, _PAYLOAD_DIR, _PAYLOAD_FILE = "carbon-payload", "/var/run/carbon", "payload.json"
_TTL = 3600  # seconds that a finished Job stays, to be looked at

#: Two hyphens, a word and the attempt stand besides it in a pod's name of 63 characters.
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_CPUS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m?)")
_SET_BY_TYPE = {
    "activeDeadlineSeconds": "timeout",
    "terminationGracePeriodSeconds": "grace",
    "backoffLimit": "max_attempts",
}


class Template(msgspec.Struct, frozen=True):
    """A template that was checked. `cpus`: what its containers ask for, together."""

    job: dict[str, Any]
    container: str  # whose output and exit code are the job's
    cpus: float
    gpus: bool


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What of an attempt goes into its Job. Seconds."""

    job_id: str
    number: int
    type: str
    pool: str
    project: str
    deployment: str  # which of several that share a Kubernetes namespace
    timeout: float
    grace: float
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of its Job and its Secret. The same attempt has the same name, so it is made once."""
        return f"carbon-{self.job_id}-{self.number}"

    @property
    def selector(self) -> dict[str, str]:
        """Labels of all Jobs, and their pods, that attempts of the job are."""
        return {DEPLOYMENT: self.deployment, JOB: self.job_id}

    @property
    def nameable(self) -> bool:
        """Whether the job's id can be part of a name, as all of our own making can."""
        return _ID.fullmatch(self.job_id) is not None


#: What cannot be made is refused before there is a job.
_TRIAL = Attempt(
    job_id="trial",
    number=1,
    type="trial",
    pool="fast",
    project="trial",
    deployment="trial",
    timeout=1,
    grace=1,
    environment={},
)


def load(path: Path) -> Template:
    """Read and check a template. Raises ConfigError."""
    try:
        found = msgspec.yaml.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not one YAML document: {reason}") from None
    try:
        return check(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check(job: Any) -> Template:
    """Raises ConfigError for what is no batch/v1 Job, or says what is not a template's to say.
    The rest is the API server's to judge."""
    if not isinstance(job, dict) or (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        raise ConfigError("must be one Job: apiVersion: batch/v1, kind: Job")
    if "namespace" in _mapping(job, "metadata"):
        raise ConfigError("metadata.namespace: set [kubernetes] namespace in the configuration")
    spec = _mapping(job, "spec", "spec")
    for field in spec:
        if field in _SET_BY_TYPE:
            raise ConfigError(f"spec.{field}: set the type's {_SET_BY_TYPE[field]} instead")
        if field not in ("template", "ttlSecondsAfterFinished"):
            raise ConfigError(
                f"spec.{field}: a job is one pod that runs once; only template and"
                " ttlSecondsAfterFinished can be given"
            )
    template = _mapping(spec, "template", "spec.template")
    pod = _mapping(template, "spec", "spec.template.spec")
    for field in _SET_BY_TYPE:
        if field in pod:
            raise ConfigError(
                f"spec.template.spec.{field}: set the type's {_SET_BY_TYPE[field]} instead"
            )
    if pod.get("restartPolicy", "Never") != "Never":
        raise ConfigError(
            "spec.template.spec.restartPolicy must be Never: a failed attempt is over"
        )
    names = [str(each["name"]) for each in _named(pod, "containers")]
    if not names:
        raise ConfigError("spec.template.spec.containers: needs at least one")
    main = str(_mapping(_mapping(template, "metadata"), "annotations").get(_MAIN, names[0]))
    if main not in names:
        raise ConfigError(f"{_MAIN} names {main!r}, which is none of the containers")
    cpus = sum(_asked_for(each) for each in _running(pod))
    if cpus <= 0:
        raise ConfigError(
            "spec.template.spec.containers: give resources.requests.cpu; a pod's energy is"
            " estimated from it"
        )
    gpus = any("gpu" in str(name) for each in _running(pod) for name in _resources(each, "limits"))
    made = Template(job, main, cpus, gpus)
    job_of(made, _TRIAL)
    return made


def job_of(template: Template, attempt: Attempt) -> dict[str, Any]:
    """The Job of an attempt. It is made suspended, and let go once its payload is there."""
    job: dict[str, Any] = copy.deepcopy(template.job)
    ours = _labels(attempt)
    metadata = job["metadata"] = {**_mapping(job, "metadata")}
    for field in ("generateName", "creationTimestamp"):
        metadata.pop(field, None)
    metadata["name"] = attempt.name
    number = str(attempt.number)
    metadata["labels"] = {**_mapping(metadata, "labels"), **ours, ATTEMPT: number}
    job.pop("status", None)
    spec = job["spec"]
    spec |= {
        "suspend": True,
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 0,
        "activeDeadlineSeconds": max(1, math.ceil(attempt.timeout)),
        "ttlSecondsAfterFinished": spec.get("ttlSecondsAfterFinished", _TTL),
    }
    pod_metadata = spec["template"]["metadata"] = {**_mapping(spec["template"], "metadata")}
    pod_metadata["labels"] = {**_mapping(pod_metadata, "labels"), **ours}
    pod = spec["template"]["spec"]
    pod["restartPolicy"] = "Never"
    pod["terminationGracePeriodSeconds"] = max(1, math.ceil(attempt.grace))
    pod.setdefault("automountServiceAccountToken", False)
    mounts = [{"name": _PAYLOAD, "mountPath": _PAYLOAD_DIR, "readOnly": True}]
    environment = {
        **attempt.environment,
        "CARBON_PAYLOAD_FILE": f"{_PAYLOAD_DIR}/{_PAYLOAD_FILE}",
    }
    volumes = _named(pod, "volumes")
    if any(each["name"] == CHECKPOINTS for each in volumes):
        mounts.append(
            {"name": CHECKPOINTS, "mountPath": _CHECKPOINT_DIR, "subPath": attempt.job_id}
        )
        environment["CARBON_CHECKPOINT_DIR"] = _CHECKPOINT_DIR
    payload = {"name": _PAYLOAD, "secret": {"secretName": attempt.name, "defaultMode": 0o444}}
    pod["volumes"] = [*volumes, payload]
    for container in _containers(pod):
        own = [each for each in _named(container, "env") if each["name"] not in environment]
        # Ours first: what comes after may refer to it, as $(CARBON_JOB_ID).
        container["env"] = [
            *({"name": name, "value": value} for name, value in environment.items()),
            *own,
        ]
        container["volumeMounts"] = [*_named(container, "volumeMounts"), *mounts]
    return job


def secret_of(attempt: Attempt, payload: bytes, owner: str) -> dict[str, Any]:
    """The payload, which goes with its Job, whose uid `owner` is. Who may look at pods and Jobs
    does not see it."""
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": attempt.name, "uid": owner}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": attempt.name,
            "labels": _labels(attempt),
            "ownerReferences": [reference],
        },
        "immutable": True,
        "data": {_PAYLOAD_FILE: base64.b64encode(payload).decode()},
    }


def _labels(attempt: Attempt) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": "carbon-orchestrator",
        **attempt.selector,
        _TYPE: _label(attempt.type),
        _POOL: attempt.pool,
        _PROJECT: _label(attempt.project),
    }


def _label(text: str) -> str:
    """As a label's value may be: up to 63 of letters, digits, `-_.`, and none of these outside."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:63].strip("_.-")


def _mapping(parent: Mapping[str, Any], field: str, needed: str = "") -> dict[str, Any]:
    """A mapping in another, empty where there is none and it is not `needed`."""
    found = parent.get(field)
    if found is None and not needed:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{needed or field}: must be a mapping")
    return found


def _named(parent: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """A list of mappings with names, as containers, volumes and variables are."""
    found = parent.get(field) or []
    if not isinstance(found, list) or not all(
        isinstance(each, dict) and each.get("name") for each in found
    ):
        raise ConfigError(f"{field}: must be a list, each with a name")
    return found


def _containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*_named(pod, "initContainers"), *_named(pod, "containers")]


def _running(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that run as long as the pod does."""
    sidecars = _named(pod, "initContainers")
    return [
        *(each for each in sidecars if each.get("restartPolicy") == "Always"),
        *_named(pod, "containers"),
    ]


def _resources(container: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return _mapping(_mapping(container, "resources"), kind)


def _asked_for(container: Mapping[str, Any]) -> float:
    """CPUs; a limit without a request is one, too."""
    found = _resources(container, "requests").get("cpu", _resources(container, "limits").get("cpu"))
    if found is None:
        return 0.0
    match = _CPUS.fullmatch(str(found))
    if match is None:
        raise ConfigError(f"{container['name']}: {found!r} CPUs: write 2, 0.5 or 500m")
    return float(match[1]) / (1000 if match[2] else 1)
