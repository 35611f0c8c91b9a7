"""The state of a cluster: its objects, what its controllers make of them, and the test as its
kubelet.

A Job that is let go gets a pod, which the test begins, lets write, and ends. One that is suspended
or deleted has its pod asked to end: `on_term` says what comes of that.
"""

from __future__ import annotations

import asyncio
import base64
import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cluster_rules import Object


class ClusterState:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = {"jobs": {}, "pods": {}, "secrets": {}}
        self.logs: dict[str, list[tuple[str, bytes]]] = {}
        #: What a pod does when it is asked to end; by default it ends at once, by SIGTERM.
        self.on_term: Callable[[str], None] = lambda pod: self.exit(pod, 143)
        #: Versions before this one are too old to watch from.
        self.oldest = 0
        self._number = 0
        self._history: list[tuple[int, str, str, str, Object]] = []  # version, kind, name, event
        self._news = asyncio.Event()
        self._cut = asyncio.Event()

    # -- what the test sees and does ---------------------------------------------------------------

    @property
    def jobs(self) -> dict[str, Object]:
        return self.objects["jobs"]

    @property
    def pods(self) -> dict[str, Object]:
        return self.objects["pods"]

    def pod_of(self, job_id: str) -> str | None:
        """The name of a job's pod that has not ended."""
        for name, pod in self.pods.items():
            if pod["metadata"]["labels"]["carbon-orchestrator/job"] == job_id and not ended(pod):
                return name
        return None

    def environment(self, pod: str) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self._main(pod)["env"]}

    def payload(self, pod: str) -> bytes:
        """What the file in the pod that is named to it has in it."""
        path = self.environment(pod)["CARBON_PAYLOAD_FILE"]
        (mount,) = [
            each
            for each in self._main(pod)["volumeMounts"]
            if path.startswith(each["mountPath"] + "/")
        ]
        volumes = {each["name"]: each for each in self.pods[pod]["spec"]["volumes"]}
        secret = self.objects["secrets"][volumes[mount["name"]]["secret"]["secretName"]]
        return base64.b64decode(secret["data"][path.removeprefix(mount["mountPath"] + "/")])

    def begin(self, pod: str, ago: float = 0) -> None:
        """The pod's container runs, since `ago` seconds."""
        self.payload(pod)  # what is to be mounted must be there
        began = time(ago)
        self.pods[pod]["status"] = {
            "phase": "Running",
            "startTime": began,
            "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": began}}}],
        }
        self._job_changed(pod)

    def wait(self, pod: str, reason: str, message: str = "") -> None:
        """The pod's container does not start."""
        state = {"waiting": {"reason": reason, "message": message}}
        self.pods[pod]["status"]["containerStatuses"] = [{"name": "main", "state": state}]
        self._job_changed(pod)

    def write(self, pod: str, text: str) -> None:
        for line in text.encode().splitlines():
            stamp = f"2026-01-01T00:00:00.{len(self.logs.setdefault(pod, [])):09}Z"
            self.logs[pod].append((stamp, line))
        self._tell()

    def exit(
        self, pod: str, code: int, reason: str = "", status: dict[str, str] | None = None
    ) -> None:
        """The pod's container ends. `status`: of the pod, besides."""
        found = self.pods[pod]
        reason = reason or ("Completed" if code == 0 else "Error")
        state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": time()}}
        found["status"] |= {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "main", "state": state}],
            **(status or {}),
        }
        job = self._job_of(pod)
        self._changed(found)
        if "deletionTimestamp" in found["metadata"]:
            # As a suspended Job's pods: they count for nothing, and go at once.
            self._gone(found)
            if "deletionTimestamp" in job["metadata"]:
                self._control(job)
            return
        if code == 0:
            _conditions(job, "SuccessCriteriaMet", "Complete")
        else:
            message = "Job has reached the specified backoff limit"
            _conditions(job, "FailureTarget", "Failed", reason="BackoffLimitExceeded", text=message)
        self._changed(job)

    def overdue(self, job: str) -> None:
        """The Job's time is up."""
        for pod in self._pods(job):
            self._ask_to_end(pod)
        found = self.jobs[job]
        found["status"] = {}
        message = "Job was active longer than specified deadline"
        _conditions(found, "FailureTarget", "Failed", reason="DeadlineExceeded", text=message)
        self._changed(found)

    def cut(self) -> None:
        """Break off all answers that are going on."""
        self._cut.set()
        self._cut = asyncio.Event()

    def forget_versions(self) -> None:
        """As etcd does when it compacts."""
        self._number += 1
        self.oldest = self._number
        self.cut()

    # -- controllers -------------------------------------------------------------------------------

    def _control(self, job: Object) -> None:
        """What the cluster makes of a Job as it is now."""
        name = job["metadata"]["name"]
        running = [each for each in self._pods(name) if not ended(self.pods[each])]
        if "deletionTimestamp" in job["metadata"]:
            for pod in running:
                self._ask_to_end(pod)
            if name in self.jobs and all(ended(self.pods[each]) for each in self._pods(name)):
                self._collect(job)
        elif job["spec"]["suspend"]:
            for pod in running:
                self._ask_to_end(pod)
            self._changed(job)
        elif not self._pods(name) and not job["status"].get("conditions"):
            self._make_pod(job)

    def _ask_to_end(self, pod: str) -> None:
        found = self.pods[pod]
        if "deletionTimestamp" in found["metadata"]:
            return
        found["metadata"]["deletionTimestamp"] = time()
        self._changed(found)
        if found["status"]["phase"] == "Pending":
            self._gone(found)
        else:
            self.on_term(pod)

    def _make_pod(self, job: Object) -> None:
        self._number += 1
        name = job["metadata"]["name"]
        template = job["spec"]["template"]
        labels = dict(template["metadata"]["labels"])
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        pod = {
            "metadata": {
                "name": f"{name}-{self._number:05}",
                "labels": labels,
                "creationTimestamp": time(),
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.pods[pod["metadata"]["name"]] = pod
        self._changed(pod, "ADDED")
        self._changed(job)

    def _collect(self, job: Object) -> None:
        """The garbage of a Job that is gone."""
        self._gone(job)
        uid = job["metadata"]["uid"]
        for kind in ("pods", "secrets"):
            for each in list(self.objects[kind].values()):
                if each["metadata"]["ownerReferences"][0]["uid"] == uid:
                    self._gone(each)

    def _pods(self, job: str) -> list[str]:
        return [
            name
            for name, each in self.pods.items()
            if each["metadata"]["ownerReferences"][0]["name"] == job
        ]

    def _main(self, pod: str) -> Object:
        return dict(self.pods[pod]["spec"]["containers"][0])

    def _job_of(self, pod: str) -> Object:
        return self.jobs[self.pods[pod]["metadata"]["ownerReferences"][0]["name"]]

    def _job_changed(self, pod: str) -> None:
        self._changed(self.pods[pod])
        self._changed(self._job_of(pod))

    def _changed(self, found: Object, event: str = "MODIFIED") -> None:
        self._number += 1
        found["metadata"]["resourceVersion"] = str(self._number)
        name = found["metadata"]["name"]
        kind = next(kind for kind, each in self.objects.items() if each.get(name) is found)
        self._history.append((self._number, kind, name, event, copy.deepcopy(found)))
        self._tell()

    def _gone(self, found: Object) -> None:
        """It is deleted."""
        self._changed(found, "DELETED")
        for each in self.objects.values():
            if each.get(found["metadata"]["name"]) is found:
                del each[found["metadata"]["name"]]

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def time(ago: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(job: Object, *kinds: str, reason: str = "", text: str = "") -> None:
    job["status"]["conditions"] = [
        {"type": kind, "status": "True", "reason": reason, "message": text} for kind in kinds
    ]
