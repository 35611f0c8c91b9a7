"""What an API server does not take of the objects that workers make."""

from __future__ import annotations

import re
from typing import Any

Object = dict[str, Any]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_JOB_SPEC = {
    *("suspend", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds"),
    *("ttlSecondsAfterFinished", "template"),
}


def wrong_metadata(new: Object) -> str:
    metadata = new["metadata"]
    labels = metadata.get("labels", {})
    wrong = [each for each in labels.values() if not _LABEL.fullmatch(each)]
    if wrong:
        return f"no labels: {wrong}"
    return "" if _NAME.fullmatch(metadata["name"]) else f"no name: {metadata['name']}"


def wrong_job(new: Object) -> str:
    spec, pod = new["spec"], new["spec"]["template"]["spec"]
    if (new["apiVersion"], new["kind"]) != ("batch/v1", "Job") or set(spec) != _JOB_SPEC:
        return f"no Job as ours are: {new}"
    if (spec["backoffLimit"], pod["restartPolicy"]) != (0, "Never"):
        return "its pod would be started twice"
    volumes = [each["name"] for each in pod["volumes"]]
    for container in pod["containers"]:
        names = [each["name"] for each in container["env"]]
        if len(set(names)) != len(names) or any(
            type(each["value"]) is not str for each in container["env"]
        ):
            return f"no environment: {container['env']}"
        if not {each["name"] for each in container["volumeMounts"]} <= set(volumes):
            return f"mounts of what is not there: {container['volumeMounts']}"
    if len(set(volumes)) != len(volumes):
        return f"volumes of the same name: {volumes}"
    return wrong_metadata({"metadata": {**new["spec"]["template"]["metadata"], "name": "pod"}})


def wrong_secret(new: Object, jobs: dict[str, Object]) -> str:
    (owner,) = new["metadata"]["ownerReferences"]
    if (new["apiVersion"], new["kind"]) != ("v1", "Secret"):
        return f"no Secret: {new}"
    if set(owner) != {"apiVersion", "kind", "name", "uid"}:
        return f"no owner: {owner}"
    found = jobs.get(owner["name"])
    if found is None or found["metadata"]["uid"] != owner["uid"]:
        return f"its owner is not there: {owner}"
    return ""
