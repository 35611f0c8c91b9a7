"""A Kubernetes API server that keeps Jobs, Pods and Secrets, as strict as api_server.py."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import web
from api_server import ApiServer, refusal
from cluster_rules import Object, wrong_job, wrong_metadata, wrong_secret
from cluster_state import ClusterState, ended, time

_PATH = re.compile(
    r"/(?P<group>api/v1|apis/batch/v1)/namespaces/jobs/(?P<kind>jobs|pods|secrets)"
    r"(?:/(?P<name>[a-z0-9.-]+)(?P<sub>/log)?)?"
)
#: What a worker's Role allows, and no more (docs/kubernetes-jobs.md).
ROLE = {
    "jobs": {"create", "get", "list", "watch", "patch", "delete"},
    "pods": {"list", "watch"},
    "pods/log": {"get"},
    "secrets": {"create"},
}


class JobCluster(ClusterState, ApiServer):
    def __init__(self, token_file: Path) -> None:
        ClusterState.__init__(self)
        ApiServer.__init__(self, token_file)
        self.role = {kind: set(verbs) for kind, verbs in ROLE.items()}
        #: Answered to every request while it is set.
        self.outage: int | None = None
        #: Objects in one answer at most.
        self.page = 1000
        #: Verbs of requests that are carried out, whose answers do not arrive: each once.
        self.lost: list[str] = []
        self.watches = 0  # that have been begun

    async def stop(self) -> None:
        self.cut()
        await super().stop()

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
        fault = wrong_job(new) if kind == "jobs" else wrong_secret(new, self.jobs)
        fault = fault or wrong_metadata(new)
        if fault:
            return self.fault(fault)
        if kind == "secrets" and sum(map(len, new["data"].values())) > 1_398_104:
            return refusal(422, "data: Too long: must have at most 1048576 bytes")
        if name in self.objects[kind]:
            return refusal(409, f'{kind} "{name}" already exists')
        self._number += 1
        new["metadata"] |= {"uid": f"uid-{self._number}", "creationTimestamp": time()}
        new["status"] = {}
        self.objects[kind][name] = new
        self._changed(new, "ADDED")
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
        job["metadata"]["deletionTimestamp"] = time()
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
        cut, loop, place = self._cut, asyncio.get_running_loop(), 0
        deadline = loop.time() + within
        while not cut.is_set() and loop.time() < deadline:
            news, place = self._history[place:], len(self._history)
            for number, its_kind, its_name, event, found in news:
                if number > version and (its_kind, its_name) == (kind, name):
                    line = msgspec.json.encode({"type": event, "object": found}) + b"\n"
                    with suppress(ConnectionResetError):  # it heard enough
                        await response.write(line)
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
            if "follow" not in query or pod not in self.pods or ended(self.pods[pod]):
                break
            await self._next(cut, 60)
        return response

    async def _next(self, cut: asyncio.Event, within: float) -> None:
        """Until there is news, or answers are cut off."""
        waits = [asyncio.create_task(each.wait()) for each in (self._news, cut)]
        await asyncio.wait(waits, timeout=max(0.0, within), return_when="FIRST_COMPLETED")
        for each in waits:
            each.cancel()


def _verb(method: str, name: str | None, query: dict[str, str]) -> str:
    if method == "GET":
        return "get" if name else "watch" if "watch" in query else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(method, method)
