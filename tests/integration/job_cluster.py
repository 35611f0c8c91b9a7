"""A Kubernetes API server that keeps Jobs, Pods and Secrets, with the controllers of a cluster and
the test as its kubelet. As strict as api_server.py.

A Job that is let go gets a pod, which the test starts, lets write, and ends. One that is suspended
or deleted has its pod asked to end: `on_term` says what comes of that.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from api_server import ApiServer, refusal

Object = dict[str, Any]

_PATH = re.compile(
    r"/(?P<group>api/v1|apis/batch/v1)/namespaces/jobs/(?P<kind>jobs|pods|secrets)"
    r"(?:/(?P<name>[a-z0-9.-]+)(?P<sub>/log)?)?"
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_JOB_SPEC = {
    *("suspend", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds"),
    *("ttlSecondsAfterFinished", "template"),
}
#: What a worker's Role allows, and no more (docs/kubernetes-jobs.md).
ROLE = {
    "jobs": {"create", "get", "list", "watch", "patch", "delete"},
    "pods": {"list"},
    "pods/log": {"get"},
    "secrets": {"create"},
}


class JobCluster(ApiServer):
    def __init__(self, token_file: Path) -> None:
        super().__init__(token_file)
        self.objects: dict[str, dict[str, Object]] = {"jobs": {}, "pods": {}, "secrets": {}}
        self.role = {kind: set(verbs) for kind, verbs in ROLE.items()}
        self.logs: dict[str, list[tuple[str, bytes]]] = {}
        #: What a pod does when it is asked to end; by default it ends at once, by SIGTERM.
        self.on_term: Callable[[str], None] = lambda pod: self.exit(pod, 143)
        #: Answered to every request while it is set.
        self.outage: int | None = None
        #: Objects in one answer at most.
        self.page = 1000
        #: Verbs of requests that are carried out, whose answers do not arrive: each once.
        self.lost: list[str] = []
        #: Versions before this one are too old to watch from.
        self.oldest = 0
        self.watches = 0  # that have been begun
        self._number = 0
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
            if pod["metadata"]["labels"]["carbon-orchestrator/job"] == job_id and not _ended(pod):
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
        began = _time(ago)
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
        state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": _time()}}
        found["status"] |= {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "main", "state": state}],
            **(status or {}),
        }
        job = self.jobs.get(found["metadata"]["ownerReferences"][0]["name"])
        if job is None:
            return
        if code == 0:
            _conditions(job, "SuccessCriteriaMet", "Complete")
        elif not job["spec"]["suspend"]:
            message = "Job has reached the specified backoff limit"
            _conditions(job, "FailureTarget", "Failed", reason="BackoffLimitExceeded", text=message)
        self._changed(job)

    def overdue(self, job: str) -> None:
        """The Job's time is up."""
        for pod in self._pods(job):
            self._ask_to_end(pod)
            self.pods.pop(pod, None)
        found = self.jobs[job]
        found["status"] = {}
        message = "Job was active longer than specified deadline"
        _conditions(found, "FailureTarget", "Failed", reason="DeadlineExceeded", text=message)
        self._changed(found)

    def cut(self) -> None:
        """Break off all answers that are going on."""
        self._cut.set()
        self._cut = asyncio.Event()

    async def stop(self) -> None:
        self.cut()
        await super().stop()

    def forget_versions(self) -> None:
        """As etcd does when it compacts."""
        self._number += 1
        self.oldest = self._number
        self.cut()

    # -- requests ----------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.outage is not None:
            return refusal(self.outage, "not now")
        match = _PATH.fullmatch(request.path)
        if match is None or (match["group"] == "api/v1") == (match["kind"] == "jobs"):
            return self.fault(f"no such path: {request.path}")
        kind, name, query = match["kind"], match["name"], dict(request.query)
        verb = _verb(request.method, name, query)
        resource = kind + (match["sub"] or "")
        if verb not in self.role[resource]:
            return refusal(403, f'{resource} is forbidden: User "worker" cannot {verb}')
        answer = await self._carry_out(request, verb, kind, name, resource, query)
        if verb in self.lost:
            self.lost.remove(verb)
            return refusal(504, "the answer is lost")
        return answer

    async def _carry_out(
        self,
        request: web.Request,
        verb: str,
        kind: str,
        name: str,
        resource: str,
        query: dict[str, str],
    ) -> web.StreamResponse:
        if verb == "create":
            return self._create(kind, msgspec.json.decode(await request.read()))
        if verb == "watch":
            return await self._watch(request, kind, query)
        if verb == "list":
            return self._list(kind, query)
        if name not in self.objects[kind]:
            return refusal(404, f'{kind} "{name}" not found')
        if resource == "pods/log":
            return await self._log(request, name, query)
        found = self.objects[kind][name]
        if verb == "patch":
            content_type = request.headers.get("Content-Type")
            return self._patch(found, content_type, msgspec.json.decode(await request.read()))
        if verb == "delete":
            return self._delete(found, msgspec.json.decode(await request.read()))
        return web.json_response(found)

    def _create(self, kind: str, new: Object) -> web.Response:
        name = new["metadata"]["name"]
        fault = _wrong_job(new) if kind == "jobs" else _wrong_secret(new, self.jobs)
        fault = fault or _wrong_metadata(new)
        if fault:
            return self.fault(fault)
        if kind == "secrets" and sum(map(len, new["data"].values())) > 1_398_104:
            return refusal(422, "data: Too long: must have at most 1048576 bytes")
        if name in self.objects[kind]:
            return refusal(409, f'{kind} "{name}" already exists')
        self._number += 1
        new["metadata"] |= {"uid": f"uid-{self._number}", "creationTimestamp": _time()}
        new["status"] = {}
        self.objects[kind][name] = new
        self._changed(new)
        answer = web.json_response(new, status=201)
        if kind == "jobs":
            self._control(new)
            self._changed(new)  # its controller writes into its status at once
        return answer

    def _patch(self, job: Object, content_type: str | None, change: Object) -> web.Response:
        if content_type != "application/merge-patch+json":
            return self.fault(f"a merge patch is not {content_type}")
        metadata = change.pop("metadata", {})
        spec = change.pop("spec", {})
        version = metadata.pop("resourceVersion", None)
        labels = metadata.pop("labels", {})
        suspend = spec.pop("suspend", job["spec"]["suspend"])
        if change or metadata or spec or version is None:
            return self.fault(f"a patch of more than is ours: {change} {metadata} {spec}")
        if version != job["metadata"]["resourceVersion"]:
            return refusal(409, "the object has been modified")
        job["metadata"]["labels"] |= labels
        job["spec"]["suspend"] = suspend
        self._changed(job)
        self._control(job)
        return web.json_response(job)

    def _delete(self, job: Object, options: Object) -> web.Response:
        policy = options.get("propagationPolicy")
        if options.get("kind") != "DeleteOptions" or policy not in ("Foreground", "Background"):
            return self.fault(f"not as one deletes: {options}")
        if options["preconditions"]["uid"] != job["metadata"]["uid"]:
            return refusal(409, "the UID in the precondition does not match")
        job["metadata"]["deletionTimestamp"] = _time()
        self._changed(job)
        self._control(job)
        return web.json_response(job)

    def _list(self, kind: str, query: dict[str, str]) -> web.Response:
        selector = query.pop("labelSelector", "")
        place = int(query.pop("continue", 0))
        most = min(int(query.pop("limit", self.page)), self.page)
        if query:
            return self.fault(f"a list knows no {query}")
        wanted = [each.split("=") for each in selector.split(",")]
        found = [
            each
            for each in self.objects[kind].values()
            if all(each["metadata"]["labels"].get(name) == value for name, value in wanted)
        ]
        following = {"continue": str(place + most)} if len(found) > place + most else {}
        return web.json_response({"metadata": following, "items": found[place : place + most]})

    async def _watch(
        self, request: web.Request, kind: str, query: dict[str, str]
    ) -> web.StreamResponse:
        name = query["fieldSelector"].removeprefix("metadata.name=")
        if set(query) != {"watch", "fieldSelector", "resourceVersion", "timeoutSeconds"}:
            return self.fault(f"a watch does not know {query}")
        version, within = int(query["resourceVersion"]), float(query["timeoutSeconds"])
        self.watches += 1
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if version < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired"}
            await response.write(msgspec.json.encode({"type": "ERROR", "object": gone}) + b"\n")
            return response
        cut, loop = self._cut, asyncio.get_running_loop()
        deadline = loop.time() + within
        while not cut.is_set() and loop.time() < deadline:
            found = self.objects[kind].get(name)
            seen = self._number if found is None else int(found["metadata"]["resourceVersion"])
            if seen > version:
                version = seen
                event = {"type": "DELETED" if found is None else "MODIFIED", "object": found or {}}
                with suppress(ConnectionResetError):  # it heard enough
                    await response.write(msgspec.json.encode(event) + b"\n")
            await self._next(cut, deadline - loop.time())
        return response

    async def _log(
        self, request: web.Request, pod: str, query: dict[str, str]
    ) -> web.StreamResponse:
        if (
            not {"container", "timestamps"}
            <= set(query)
            <= {*("container", "timestamps", "follow", "sinceTime")}
        ):
            return self.fault(f"a log does not know {query}")
        if query["container"] != "main":
            return refusal(400, f"container {query['container']} is not valid for pod {pod}")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        cut, since, place = self._cut, query.get("sinceTime", ""), 0
        while not cut.is_set():
            lines = self.logs.get(pod, [])
            for stamp, line in lines[place:]:
                if stamp >= since:  # its last line comes again
                    with suppress(ConnectionResetError):
                        await response.write(stamp.encode() + b" " + line + b"\n")
            place = len(lines)
            if "follow" not in query or pod not in self.pods or _ended(self.pods[pod]):
                break
            await self._next(cut, 60)
        return response

    async def _next(self, cut: asyncio.Event, within: float) -> None:
        """Until there is news, or answers are cut off."""
        waits = [asyncio.create_task(each.wait()) for each in (self._news, cut)]
        await asyncio.wait(waits, timeout=max(0.0, within), return_when="FIRST_COMPLETED")
        for each in waits:
            each.cancel()

    # -- controllers -------------------------------------------------------------------------------

    def _control(self, job: Object) -> None:
        """What the cluster makes of a Job as it is now."""
        name = job["metadata"]["name"]
        running = [each for each in self._pods(name) if not _ended(self.pods[each])]
        if "deletionTimestamp" in job["metadata"]:
            for pod in running:
                self._ask_to_end(pod)
            if all(_ended(self.pods[each]) for each in self._pods(name)):
                self._collect(job)
        elif job["spec"]["suspend"]:
            for pod in running:
                self._ask_to_end(pod)
            self._changed(job)
        elif not self._pods(name) and not job["status"].get("conditions"):
            self._make_pod(job)

    def _ask_to_end(self, pod: str) -> None:
        if self.pods[pod]["status"]["phase"] == "Pending":
            del self.pods[pod]
            return
        self.pods[pod]["metadata"]["deletionTimestamp"] = _time()
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
                "creationTimestamp": _time(),
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.pods[pod["metadata"]["name"]] = pod
        self._changed(job)

    def _collect(self, job: Object) -> None:
        """The garbage of a Job that is gone."""
        del self.jobs[job["metadata"]["name"]]
        uid = job["metadata"]["uid"]
        for kind in ("pods", "secrets"):
            self.objects[kind] = {
                name: each
                for name, each in self.objects[kind].items()
                if each["metadata"]["ownerReferences"][0]["uid"] != uid
            }
        self._tell()

    def _pods(self, job: str) -> list[str]:
        return [
            name
            for name, each in self.pods.items()
            if each["metadata"]["ownerReferences"][0]["name"] == job
        ]

    def _main(self, pod: str) -> Object:
        return dict(self.pods[pod]["spec"]["containers"][0])

    def _job_changed(self, pod: str) -> None:
        self._changed(self.jobs[self.pods[pod]["metadata"]["ownerReferences"][0]["name"]])

    def _changed(self, found: Object) -> None:
        self._number += 1
        found["metadata"]["resourceVersion"] = str(self._number)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _verb(method: str, name: str | None, query: dict[str, str]) -> str:
    if method == "GET":
        return "get" if name else "watch" if "watch" in query else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(method, method)


def _ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def _time(ago: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(job: Object, *kinds: str, reason: str = "", text: str = "") -> None:
    job["status"]["conditions"] = [
        {"type": kind, "status": "True", "reason": reason, "message": text} for kind in kinds
    ]


def _wrong_metadata(new: Object) -> str:
    metadata = new["metadata"]
    labels = metadata.get("labels", {})
    wrong = [each for each in labels.values() if not _LABEL.fullmatch(each)]
    if wrong:
        return f"no labels: {wrong}"
    return "" if _NAME.fullmatch(metadata["name"]) else f"no name: {metadata['name']}"


def _wrong_job(new: Object) -> str:
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
    return _wrong_metadata({"metadata": {**new["spec"]["template"]["metadata"], "name": "pod"}})


def _wrong_secret(new: Object, jobs: dict[str, Object]) -> str:
    (owner,) = new["metadata"]["ownerReferences"]
    if (new["apiVersion"], new["kind"]) != ("v1", "Secret"):
        return f"no Secret: {new}"
    if set(owner) != {"apiVersion", "kind", "name", "uid"}:
        return f"no owner: {owner}"
    found = jobs.get(owner["name"])
    if found is None or found["metadata"]["uid"] != owner["uid"]:
        return f"its owner is not there: {owner}"
    return ""
