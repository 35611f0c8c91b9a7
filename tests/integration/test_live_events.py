"""`GET /events`: each event once, in order, to those who may know, from where they left off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from deployment import HIGH, LOW, Deploy, Deployment
from test_api_keys import Keys

from carbon_orchestrator.client.server_sent import Frame, Frames
from carbon_orchestrator.config import Limits, ZoneConfig
from carbon_orchestrator.events import OperatorActed
from carbon_orchestrator.gateway.live import events as live
from carbon_orchestrator.gateway.live import subscriber, tail
from streams.codec import envelope
from streams.testing import until


class Reader:
    """One who reads the event stream, frame by frame."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.frames = Frames()
        self.raw = b""
        self._waiting: list[Frame] = []

    @property
    def position(self) -> str:
        return self.frames.position

    async def more(self, timeout: float = 10) -> bool:
        """Read what comes next; False at the end."""
        chunk = await asyncio.wait_for(self.response.content.readany(), timeout)
        self.raw = (self.raw + chunk)[-4000:]
        self._waiting += self.frames.feed(chunk)
        return bool(chunk)

    async def next(self, timeout: float = 10) -> Frame:
        while not self._waiting:
            assert await self.more(timeout), self.raw[-500:]
        return self._waiting.pop(0)

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of this type; others are passed over."""
        while (frame := await self.next()).kind != kind:
            pass
        return dict(json.loads(frame.data))

    async def rest(self) -> None:
        """To the end."""
        while await self.more():
            pass


@contextlib.asynccontextmanager
async def reading(
    house: Deployment, query: str = "", after: str | None = None, key: str | None = None
) -> AsyncIterator[Reader]:
    headers = {}
    if after is not None:
        headers["Last-Event-ID"] = after
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{house.base}/events{query}", headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        reader = Reader(response)
        while not reader.position:
            await reader.more()
        yield reader


async def numbered(house: Deployment, numbers: range, batch: int = 1) -> None:
    """Cancellations of jobs that there are not, so many to an entry."""
    for start in range(numbers.start, numbers.stop, batch):
        some = range(start, min(start + batch, numbers.stop))
        events = [
            b'{"type":"job.cancel_requested","data":{"job_id":"x","reason":"%d"}}' % number
            for number in some
        ]
        await house.redis.xadd(house.topology.jobs, {"batch": b"[" + b",".join(events) + b"]"})


def number(frame: Frame) -> int:
    return int(json.loads(frame.data)["data"]["reason"])


async def test_a_job_is_seen_from_its_submission_to_its_emissions(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.intensity(LOW)
    await house.routing()
    async with reading(house) as reader:
        assert reader.raw.startswith(b"retry: 2000\nid: ")
        job_id = await house.post("quick", urgency="urgent", payload={"a": 1})
        seen: dict[str, dict[str, Any]] = {}
        while "emissions.recorded" not in seen:
            frame = await reader.next()
            if (told := json.loads(frame.data))["job"] is not None:
                seen[frame.kind] = told
    assert list(seen) == [
        "job.submitted",
        "job.dispatched",
        "job.started",
        "job.completed",
        "emissions.recorded",
    ]
    assert {each["job"] for each in seen.values()} == {job_id}
    dispatched = seen["job.dispatched"]
    assert dispatched["stream"] == "dispatch.fast.urgent"
    assert dispatched["source"] == "router"
    assert dispatched["data"]["decision"]["reason"]
    entry, _, index = dispatched["id"].partition("/")
    assert index == "0"
    assert await house.redis.xrange(
        house.topology.partition.key(dispatched["stream"]), entry, entry
    )
    assert dispatched["at"].endswith("Z")


async def test_only_what_is_asked_for_is_told(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.intensity(LOW)
    await house.routing()
    mine = await house.post("quick", urgency="urgent", project="mine")
    await house.reach(mine, "completed")
    async with (
        reading(house, "?types=job.completed,job.failed") as types,
        reading(house, "?project=other") as project,
    ):
        first = await house.post("quick", urgency="urgent", project="mine")
        await house.reach(first, "completed")
        other = await house.post("quick", urgency="urgent", project="other")
        async with reading(house, f"?job={other}", after=types.position) as job:
            kinds = [(await job.next()).kind for _ in range(5)]
        assert kinds[0] == "job.submitted"
        assert kinds[-1] == "emissions.recorded"
        frames = [await types.next(), await types.next()]
        assert [(each.kind, json.loads(each.data)["job"]) for each in frames] == [
            ("job.completed", first),
            ("job.completed", other),
        ]
        # job.started names no project: it is known by the job.
        assert [(await project.next()).kind for _ in range(5)] == kinds


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("types=job.compleated", "known are"),
        ("types=segment.sealed", "known are"),
        ("job=x", "no job's id"),
        ("project=%20", "no project's name"),
        ("last_event_id=!", "start without one"),
        ("last_event_id=AAAA", "start without one"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused(deploy: Deploy, query: str, said: str) -> None:
    house = deploy()
    await house.gateway()
    answer = await house.http("GET", f"/events?{query}")
    assert answer.status == 422
    assert said in answer.body["detail"]


async def test_head_says_what_there_would_be(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    answer = await house.http("HEAD", "/events")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (
        200,
        "text/event-stream",
    )


async def test_one_goes_on_exactly_where_one_left_off(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of entries, over many pages, and while more is published."""
    monkeypatch.setattr(live, "_PAGE", 7)
    monkeypatch.setattr(tail, "_PAGE", 7)
    house = deploy()
    await house.gateway()
    seen: list[int] = []
    async with reading(house) as reader:
        position = reader.position
    publishing = asyncio.create_task(numbered(house, range(600), batch=3))
    while len(seen) < 600:
        async with reading(house, after=position) as reader:
            stop = min(600, len(seen) + 47)  # not at the end of an entry
            while len(seen) < stop:
                frame = await reader.next()
                seen.append(number(frame))
                position = frame.position
    await publishing
    assert seen == list(range(600))


async def test_what_is_published_while_one_catches_up_is_told_once(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PAGE", 5)
    house = deploy()
    await house.gateway()
    async with reading(house) as reader:
        position = reader.position
    await numbered(house, range(100))
    publishing = asyncio.create_task(numbered(house, range(100, 400)))
    async with contextlib.AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(reading(house, after=position)) for _ in range(5)
        ]
        for reader in readers:
            assert [number(await reader.next()) for _ in range(400)] == list(range(400))
        await publishing
        await numbered(house, range(400, 401))
        for reader in readers:
            assert number(await reader.next()) == 400, "all are live, nothing came twice"
            assert reader.position == readers[0].position


async def test_ids_that_go_back_from_stream_to_stream_lose_nothing(deploy: Deploy) -> None:
    """As when the server's clock is stepped back: a stream goes on where it was, others do not."""
    house = deploy()
    await house.gateway()
    async with reading(house) as reader:
        ahead = round(time.time() * 1000) + 3_600_000
        for stream, at, each in (
            (house.topology.jobs, ahead, 0),
            (house.topology.deferrals, ahead - 3_600_000, 1),
            (house.topology.jobs, ahead, 2),
            (house.topology.deferrals, ahead - 3_599_000, 3),
        ):
            data = b'{"job_id":"x","reason":"%d"}' % each
            entry = {"type": "job.cancel_requested", "data": data}
            await house.redis.xadd(stream, entry, id=f"{at}-{each}")
            assert number(await reader.next()) == each
            async with reading(house, after=reader.position) as again:
                position = again.position
            assert position == reader.position
    async with reading(house, after=position) as reader:
        await numbered(house, range(4, 5))
        assert number(await reader.next()) == 4


async def test_without_a_position_one_begins_now(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    await numbered(house, range(10))
    async with reading(house) as reader:
        await numbered(house, range(10, 11))
        assert number(await reader.next()) == 10


async def test_heartbeats_tell_how_far_one_has_read(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "HEARTBEAT_SECONDS", 0.1)
    house = deploy()
    await house.gateway()
    async with reading(house, "?types=job.completed") as reader:
        position = reader.position
        await numbered(house, range(5), batch=5)
        while reader.position == position:
            await reader.more()
        assert b"\n: \nid: " in reader.raw
        later = reader.position
    async with reading(house, after=later) as reader:
        await numbered(house, range(5, 6))
        assert number(await reader.next()) == 5, "what one did not want is not read again"


async def test_one_may_listen_for_long_but_has_to_read(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits for slow clients, of which a listener is none while nothing happens."""
    monkeypatch.setattr(subscriber, "HEARTBEAT_SECONDS", 0.2)
    house = deploy(limits=Limits(header_timeout=0.3, idle_timeout=0.3))
    await house.gateway()
    async with reading(house) as reader, reading(house) as deaf:
        for _ in range(10):  # two seconds
            await reader.more()
        deaf.response.connection.transport.pause_reading()  # type: ignore[union-attr]
        for each in range(200):
            await house.publish({"type": "quick", "payload": {"n": each, "x": "x" * 60_000}})
            assert (await reader.event("job.submitted"))["data"]["payload"]["n"] == each

        async def cut() -> bool:
            metrics = (await house.http("GET", "/metrics")).body.decode()
            return 'connections_ended_total{why="too-slow"} 1.0' in metrics

        await until(cut)


async def test_what_was_trimmed_meanwhile_is_said_to_be_missing(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    await numbered(house, range(1))
    async with reading(house) as reader:
        position = reader.position
    await numbered(house, range(1, 10))
    ids = [entry_id for entry_id, _ in await house.redis.xrange(house.topology.jobs)]
    # As the archiver leaves it.
    await house.redis.hset(house.topology.archived, "jobs", ids[4])
    await house.redis.xtrim(house.topology.jobs, minid=ids[5], approximate=False)
    async with reading(house, after=position) as reader:
        gap = await reader.next()
        assert gap.kind == "gap"
        assert json.loads(gap.data)["streams"] == ["jobs"]
        assert [number(await reader.next()) for _ in range(5)] == list(range(5, 10))
        end = reader.position
    async with reading(house, after=gap.position) as reader:
        assert number(await reader.next()) == 5, "and is said once"
    await house.redis.hset(house.topology.archived, "jobs", ids[-1])
    await house.redis.xtrim(house.topology.jobs, maxlen=0, approximate=False)
    async with reading(house, after=end) as reader:
        await numbered(house, range(10, 11))
        assert number(await reader.next()) == 10, "of what one had read nothing is missing"


async def test_a_position_of_other_streams_is_told_to_be_of_no_use(deploy: Deploy) -> None:
    """As after a zone was added: one hears so, and of all that comes from now on."""
    zones = {"FR": ZoneConfig(signal=["simulated"], pools=("eco",))}
    before, house = deploy(), deploy(zones=zones)
    await before.gateway()
    await house.gateway()
    async with reading(before) as reader:
        position = reader.position
    await numbered(house, range(1))
    async with reading(house, after=position) as reader:
        gap = await reader.next()
        assert gap.kind == "gap"
        assert "dispatch.eco@FR.due" in json.loads(gap.data)["streams"]
        await numbered(house, range(1, 2))
        assert number(await reader.next()) == 1


async def test_a_server_that_comes_back_with_nothing_is_followed(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    await numbered(house, range(3))

    async def cut() -> bool:
        reads = [each for each in await house.redis.client_list() if each["cmd"] == "xread"]
        if len(reads) == 2:  # the other one follows the intensity
            for each in reads:
                await house.redis.client_kill(each["addr"])
        return len(reads) == 2

    async with reading(house) as reader:
        for _ in range(3):
            await house.redis.delete(house.topology.jobs)
            await until(cut)  # who follows notices when it has to connect again
            gap = await reader.next()
            assert gap.kind == "gap"
            assert json.loads(gap.data)["streams"] == ["jobs"]
            await house.redis.xadd(
                house.topology.jobs,
                {"type": "job.cancel_requested", "data": b'{"job_id":"x","reason":"7"}'},
                id="5-5",
            )
            assert number(await reader.next()) == 7


async def test_one_who_does_not_keep_up_is_ended_and_goes_on_later(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_MOST", 20)
    house = deploy()
    await house.gateway()
    padding = "x" * 50_000
    async with reading(house, "?types=job.submitted") as slow, reading(house) as quick:
        keeping = asyncio.create_task(quick.rest())
        # More than the sockets between us hold; nothing of it is read by `slow`.
        for each in range(250):
            await house.publish({"type": "quick", "payload": {"n": each, "x": padding}})
            await until(lambda each=each: len(quick._waiting) > each)  # type: ignore[misc]
        await slow.rest()
        assert b": this reader does not keep up" in slow.raw
        seen = [json.loads(frame.data)["data"]["payload"]["n"] for frame in slow._waiting]
        assert 0 < len(seen) < 250
        async with reading(house, "?types=job.submitted", after=slow.position) as again:
            while len(seen) < 250:
                seen.append(json.loads((await again.next()).data)["data"]["payload"]["n"])
        assert seen == list(range(250)), "nothing was lost by it"
        keeping.cancel()


async def test_so_many_and_no_more_listen_and_no_place_of_a_request_is_taken(
    deploy: Deploy,
) -> None:
    house = deploy(limits=Limits(live=3, requests=2))
    part = await house.gateway()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(reading(house))
        refused = await house.http("GET", "/events")
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "1"
        assert (await house.http("GET", "/jobs")).status == 200
        assert part.role._live._feeds.tails[0]._listeners
    await until(lambda: part.role._guard._long.taken == 0, 5)
    assert not part.role._live._feeds.tails[0]._listeners
    async with reading(house):
        pass


async def test_nothing_is_read_while_nobody_listens(deploy: Deploy) -> None:
    house = deploy()
    part = await house.gateway()
    following = part.role._live._feeds.tails[0]
    async with reading(house) as reader:
        await numbered(house, range(1))
        await reader.next()
        assert following._position is not None
    await until(lambda: following._position is None, 5)


async def test_a_gateway_that_stops_waits_for_no_listener(deploy: Deploy) -> None:
    house = deploy()
    part = await house.gateway()
    async with reading(house) as reader, reading(house) as deaf:
        deaf.response.connection.transport.pause_reading()  # type: ignore[union-attr]
        for each in range(200):
            await house.publish({"type": "quick", "payload": {"n": each, "x": "x" * 60_000}})
        began = time.monotonic()
        await part.stop()
        assert time.monotonic() - began < 3
        with contextlib.suppress(aiohttp.ClientPayloadError):
            await reader.rest()


async def test_a_revoked_key_hears_no_more(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    key, other = await keys.make("read"), await keys.make("read")
    await house.gateway(require_keys=True)
    query = "?types=job.cancel_requested"
    async with reading(house, query, key=key) as reader, reading(house, query, key=other) as kept:
        await numbered(house, range(1))
        assert number(await reader.next()) == 0
        await keys.revoke(key)
        began = time.monotonic()
        await reader.rest()
        assert time.monotonic() - began < 5
        await numbered(house, range(1, 2))
        assert [number(await kept.next()) for _ in range(2)] == [0, 1]


async def test_who_may_listen(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    submit = await keys.make("submit")
    bound = await keys.make("read", project="mine")
    await house.gateway(require_keys=True)
    assert (await house.http("GET", "/events")).status == 401
    assert (await keys.http(submit, "GET", "/events")).status == 403
    refused = await keys.http(bound, "GET", "/events?project=theirs")
    assert refused.status == 422


async def test_a_bound_key_hears_of_its_project_only(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    bound = await keys.make("read", "submit", project="mine")
    operate = await keys.make("operate")
    await house.gateway(require_keys=True)
    house.router()
    house.accounting()
    house.worker("fast")
    house.worker("eco")
    await house.intensity(HIGH)
    await house.routing()
    async with reading(house, key=bound) as reader, reading(house, key=operate) as all_of_it:
        theirs = (await keys.http(operate, "GET", "/jobs")).body["jobs"]
        assert theirs == []
        for each in ("theirs", "mine", "theirs", "mine"):
            await house.publish({"type": "quick", "urgency": "flexible", "project": each})
        await house.counted("deferred", 4)
        act = OperatorActed(who="ada", action="key.create", subject="1")
        await house.redis.xadd(
            house.topology.operations, {"batch": b"[" + envelope(act, "operator") + b"]"}
        )
        await house.redis.xadd(house.topology.jobs, {"type": "job.submitted", "data": b"secret"})
        await until(lambda: house.dead_letters())
        mine = (await keys.submit(bound, urgency="urgent")).body["id"]
        await house.reach(mine, "completed")
        waiting = {each["id"] for each in (await keys.http(bound, "GET", "/jobs")).body["jobs"]}
        assert len(waiting) == 3
        own: list[Frame] = []
        while not own or own[-1].kind != "emissions.recorded":
            own.append(await reader.next())
        everything: list[Frame] = []
        while not everything or everything[-1].kind != "emissions.recorded":
            everything.append(await all_of_it.next())
    assert {json.loads(each.data)["job"] for each in own} == waiting
    kinds = [each.kind for each in own]
    assert kinds.count("job.deferred") == 2, "whose project is told by their records only"
    assert set(kinds) == {
        *("job.submitted", "job.deferred", "job.dispatched", "job.started", "job.completed"),
        "emissions.recorded",
    }
    for each in own:
        decision = json.loads(each.data)["data"].get("decision", {"params": {}})
        assert decision["params"] == {}
        assert "considered" not in decision
    every = {each.kind for each in everything}
    assert {"operator.acted", "dead_letter", "job.deferred"} <= every
    (letter,) = [json.loads(each.data) for each in everything if each.kind == "dead_letter"]
    assert letter["data"]["stream"] == house.topology.jobs
    assert letter["data"]["reason"]
    assert "secret" not in str(letter["data"])


async def test_to_claim_a_job_is_not_to_have_it(deploy: Deploy) -> None:
    """Who publishes to the streams may name any job, and any project."""
    house = deploy()
    keys = Keys(house)
    bound = await keys.make("read", "submit", project="mine")
    operate = await keys.make("operate", "submit")
    await house.gateway(require_keys=True)
    house.router()
    await house.intensity(HIGH)
    await house.routing()
    await house.publish({"type": "quick", "urgency": "flexible", "project": "theirs"})
    (theirs,) = await house.counted("deferred", 1)
    async with reading(house, key=bound) as reader:
        await house.publish({"job_id": theirs, "type": "quick", "project": "mine"})
        assert (await reader.event("job.submitted"))["job"] == theirs  # it says so
        assert (await keys.http(operate, "DELETE", f"/jobs/{theirs}")).status == 202
        await house.reach(theirs, "cancelled")
        mine = (await keys.submit(bound)).body["id"]
        told = json.loads((await reader.next()).data)
    assert told["job"] == mine


async def test_payloads_with_line_ends_arrive_as_they_are(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    async with reading(house) as reader:
        await house.publish(b'{"type":"quick",\r\n"payload":{"a"\n:\r"b\xe2\x80\xa8"}}')
        await house.publish(b'{"type":"quick","payload":{"a":"\xff"}}')
        first, second = await reader.next(), await reader.next()
    assert json.loads(first.data)["data"]["payload"] == {"a": "b\u2028"}
    assert json.loads(second.data)["data"]["payload"] == {"a": "\ufffd"}
