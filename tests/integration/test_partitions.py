"""A deployment of four partitions on a Redis Cluster of three nodes answers as one."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from deployment import configuration

from carbon_orchestrator.accounting.component import Accounting
from carbon_orchestrator.app import run_until_stopped
from carbon_orchestrator.config import Config, ConfigError
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.publishing import SignalRole
from carbon_orchestrator.submission import derived_job_id, home_of, partition_of
from carbon_orchestrator.topology import CODEC
from carbon_orchestrator.worker.everywhere import workers
from carbon_orchestrator.worker.guardian import Guardian
from streams.embedded import free_port
from streams.embedded_cluster import EmbeddedCluster
from streams.testing import until

PARTITIONS = 4


class Spread:
    """All roles in this process, over HTTP."""

    def __init__(self, url: str, config: Config, data: Path, guardian: Guardian) -> None:
        self.runtime = Runtime(url, config)
        self.data, self._guardian = data, guardian
        self.base = ""

    async def start(self) -> None:
        runtime, data = self.runtime, self.data
        assert await runtime.ready()
        signal = SignalRole(runtime, "simulated", speed=1.0)
        await signal.establish_clock()
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20))
        gateway = Gateway(runtime, port=0, archive=data / "archive")
        self.workers = [
            each for pool in POOLS for each in workers(runtime, pool, data, self._guardian, slots=2)
        ]
        each = runtime.each()
        roles = [
            *(signal, gateway, *self.workers),
            *(Router(one) for one in each),
            *(Accounting(one, data / "archive") for one in each),
        ]
        self._task = asyncio.create_task(run_until_stopped(runtime, *(one.run for one in roles)))
        started = asyncio.create_task(gateway.started.wait())
        await asyncio.wait({started, self._task}, timeout=20, return_when="FIRST_COMPLETED")
        assert started.done(), self._task
        self.base = f"http://127.0.0.1:{gateway.port}"

    async def stop(self) -> None:
        self.runtime.stop.set()
        async with asyncio.timeout(30):
            await self._task
        await self.session.close()
        await self.runtime.aclose()

    async def get(self, path: str) -> Any:
        async with self.session.get(self.base + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def post(self, key: str | None = None, **fields: Any) -> dict[str, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        job = {"type": "quick", "urgency": "urgent", **fields}
        async with self.session.post(self.base + "/jobs", json=job, headers=headers) as response:
            assert response.status in (200, 202), await response.text()
            return dict(await response.json())

    async def bulk(self, count: int, **fields: Any) -> list[str]:
        line = json.dumps({"type": "quick", "urgency": "urgent", **fields})
        kind = {"Content-Type": "application/x-ndjson"}
        async with self.session.post(
            self.base + "/jobs", data="\n".join([line] * count), headers=kind
        ) as response:
            assert response.status == 202, await response.text()
            return [str(each["id"]) for each in (await response.json())["results"]]

    async def completed(self, number: int) -> None:
        async def so_many() -> bool:
            return bool((await self.get("/overview"))["jobs"]["completed"] == number)

        await until(so_many, 30)


@pytest.fixture
async def spread(
    session_cluster: EmbeddedCluster, tmp_path: Path, guardian: Guardian
) -> AsyncIterator[Spread]:
    config = configuration(f"t{uuid.uuid4().hex[:8]}", partitions=PARTITIONS)
    deployment = Spread(session_cluster.url, config, tmp_path, guardian)
    await deployment.start()
    yield deployment
    await deployment.stop()


async def test_jobs_are_spread_run_and_answered_for_as_one(spread: Spread) -> None:
    ids = [str((await spread.post())["id"]) for _ in range(4)] + await spread.bulk(36)
    assert Counter(map(partition_of, ids)) == dict.fromkeys(range(PARTITIONS), 10)
    await spread.completed(40)
    job = await spread.get(f"/jobs/{ids[-1]}")
    assert job["state"] == "completed"
    events = await spread.get(f"/jobs/{ids[0]}/events")
    assert events["events"][0]["type"] == "job.submitted"
    # Each is on one page of the list, in the order of their submission.
    listed, cursor = [], ""
    while True:
        page = await spread.get(f"/jobs?limit=7{cursor}")
        listed += page["jobs"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(each["id"] for each in listed) == sorted(ids)
    places = [(each["submitted_at"], each["id"]) for each in listed]
    assert places == sorted(places, reverse=True)

    async def accounted() -> bool:
        rows = (await spread.get("/emissions"))["rows"]
        return sum(each["completed"] for each in rows) == 40

    await until(accounted, 20)
    health = await spread.get("/health")
    assert health["status"] == "ok", health
    assert health["jobs"]["completed"] == 40
    names = [each["stream"] for each in health["streams"]]
    assert len(names) == len(set(names))
    pools = {each["site"]: each for each in (await spread.get("/pools"))["pools"]}
    assert pools["fast"]["workers"] == 1


async def test_what_comes_again_is_the_same_job_in_the_partition_of_its_key(
    spread: Spread,
) -> None:
    for number in range(8):
        key = f"key-{number}"
        first, again = await spread.post(key), await spread.post(key)
        assert first["id"] == again["id"]
        assert first["id"] == derived_job_id(home_of(PARTITIONS, "key", key), "key", key)


async def test_intensities_are_in_every_partition_once(spread: Spread) -> None:
    async def points(number: int) -> list[Any]:
        runtime = spread.runtime.each()[number]
        stream = runtime.topology.intensity
        rows = await runtime.connect().execute_command("XRANGE", stream, "-", "+")
        entries = [CODEC.entry(stream, each.decode(), tuple(fields)) for each, fields in rows]
        return [message.event for entry in entries for message in entry.messages]

    async def alike() -> bool:
        first, *others = [await points(number) for number in range(PARTITIONS)]
        return bool(first) and all(each == first for each in others)

    await until(alike, 20)


async def test_live_events_come_from_every_partition_and_go_on_from_a_position(
    spread: Spread,
) -> None:
    async def listen(count: int, after: str = "") -> tuple[list[str], str]:
        seen: list[str] = []
        headers = {"Last-Event-ID": after} if after else {}
        url = f"{spread.base}/events?types=job.completed"
        async with spread.session.get(url, headers=headers) as response:
            listening.set()
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("id: "):
                    after = line[4:]
                elif line.startswith("data: "):
                    seen.append(json.loads(line[6:])["data"]["job_id"])
                    if len(seen) == count:
                        break
        return seen, after

    listening = asyncio.Event()
    told = asyncio.create_task(listen(8))
    await listening.wait()
    ids = await spread.bulk(8)
    seen, after = await asyncio.wait_for(told, 30)
    assert sorted(seen) == sorted(ids)
    more = await spread.bulk(4)
    await spread.completed(12)
    seen, _ = await asyncio.wait_for(listen(4, after), 30)
    assert sorted(seen) == sorted(more)


async def test_a_dead_letter_of_any_partition_is_seen_and_retried(spread: Spread) -> None:
    for each in spread.runtime.each():
        client = each.connect()
        await client.xadd(each.topology.jobs, {"type": "no.such.event", "data": "{}"})

    async def buried() -> Any:
        found = await spread.get("/dead-letters?limit=3")
        return found if found["total"] == PARTITIONS else None

    found = await until(buried, 20)
    assert found["more"]
    assert [each["count"] for each in found["groups"]] == [PARTITIONS]
    rest = await spread.get(f"/dead-letters?after={found['letters'][-1]['id']}")
    ids = [each["id"] for each in (*found["letters"], *rest["letters"])]
    assert sorted(int(each.rpartition("-")[2]) for each in ids) == list(range(PARTITIONS))
    shown = await spread.get(f"/dead-letters/{ids[0]}")
    assert shown["id"] == ids[0]
    drop = {"stream": "jobs", "kind": found["groups"][0]["kind"]}
    async with spread.session.post(f"{spread.base}/dead-letters/drop", json=drop) as response:
        done = await response.json()
    assert (response.status, done["done"]) == (200, PARTITIONS), done


@pytest.mark.parametrize("wanted", [2, 1])
async def test_another_number_of_partitions_is_refused(spread: Spread, wanted: int) -> None:
    config = configuration(spread.runtime.config.namespace, partitions=wanted)
    other = Runtime(spread.runtime.url, config)
    with pytest.raises(ConfigError, match="has 4 partitions, not"):
        await other.ready()
    await other.aclose()


async def test_who_names_no_number_goes_by_the_one_on_record(spread: Spread) -> None:
    other = Runtime(spread.runtime.url, configuration(spread.runtime.config.namespace))
    assert await other.ready()
    assert [each.topology.partition.number for each in other.each()] == [0, 1, 2, 3]
    assert [each.topology.partition.number for each in other.each([2])] == [2]
    with pytest.raises(ConfigError, match="there is no partition 4"):
        other.each([4])
    await other.aclose()


# -- the command line ----------------------------------------------------------------------------


async def _command(spread: Spread, *arguments: str) -> tuple[int, str, str]:
    """Status, output and errors of the program."""
    config = spread.data / "config.toml"
    config.write_text(f'namespace = "{spread.runtime.config.namespace}"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "carbon_orchestrator", *arguments),
        *("--redis", spread.runtime.url, "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def test_an_audit_is_of_every_partition(spread: Spread) -> None:
    await spread.bulk(12)
    await spread.completed(12)
    archive = ("--archive", str(spread.data / "archive"))

    async def sealed() -> Any:
        status, out, _ = await _command(spread, "audit", "head", "--json", *archive)
        return None if status else json.loads(out)

    heads = await until(sealed, 30)
    assert [each["partition"] for each in heads] == [0, 1, 2, 3]
    status, out, error = await _command(spread, "audit", "verify", "--json", *archive)
    assert status == 0, out + error
    found = json.loads(out)
    assert [(each["partition"], each["diverging"]) for each in found] == [(n, 0) for n in range(4)]
    assert [each["tallies"]["decisions"]["checked"] for each in found] == [3, 3, 3, 3]
    head = ("--head", f"{heads[1]['number']}:{heads[1]['hash']}", *archive)
    status, _, error = await _command(spread, "audit", "verify", *head)
    assert (status, "name it with --partition" in error) == (2, True)
    assert (await _command(spread, "audit", "verify", *head, "--partition", "1"))[0] == 0
    # Something is altered in one of them: that one is found, and no other.
    one = spread.runtime.each()[2]
    client = one.connect()
    ((entry_id, _), *_) = await client.execute_command(
        "XRANGE", one.topology.completions, "-", "+", "COUNT", 1
    )
    await client.xdel(one.topology.completions, entry_id)
    status, out, _ = await _command(spread, "audit", "verify", "--json", *archive)
    assert status == 1
    diverging = {each["partition"]: each["diverging"] > 0 for each in json.loads(out)}
    assert diverging == {0: False, 1: False, 2: True, 3: False}


async def test_operators_see_every_partition(spread: Spread) -> None:
    for each in spread.runtime.each():
        await each.connect().xadd(each.topology.jobs, {"type": "no.such.event", "data": "{}"})

    async def buried() -> bool:
        return bool((await spread.get("/dead-letters"))["total"] == PARTITIONS)

    await until(buried, 20)
    _, out, _ = await _command(spread, "dead-letters", "list", "--json")
    ids = [each["id"] for each in json.loads(out)["dead_letters"]]
    assert len(ids) == PARTITIONS
    assert (await _command(spread, "dead-letters", "drop", ids[0], "--yes"))[0] == 0
    _, out, _ = await _command(spread, "dead-letters", "list", "--json")
    assert [each["id"] for each in json.loads(out)["dead_letters"]] == ids[1:]
    _, out, _ = await _command(spread, "operations", "--json")
    roles = Counter(each["subject"] for each in json.loads(out) if each["action"] == "role.started")
    assert (roles["router"], roles["accounting"], roles["signal"]) == (4, 4, 1)
    _, out, _ = await _command(spread, "doctor", "--json")
    checks = {each["name"]: each["status"] for each in json.loads(out)}
    for number in range(PARTITIONS):
        suffix = f", partition {number}" if number else ""
        assert checks[f"router{suffix}"] == "ok", checks
        assert checks[f"carbon signal{suffix}"] == "ok", checks
    status, _, error = await _command(spread, "replay", "--stream", "jobs")
    assert (status, "name it with --partition" in error) == (2, True)
    status, out, _ = await _command(spread, "replay", "--stream", "intensity", "--partition", "3")
    assert (status, "intensity.observed" in out) == (0, True)
    status, _, error = await _command(spread, "operations", "--partition", "4")
    assert (status, "they are 0 to 3" in error) == (2, True)


async def test_up_with_partitions_on_the_bundled_server(tmp_path: Path) -> None:
    async def up(partitions: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "carbon_orchestrator", "up", "--data", str(tmp_path)),
            *("--partitions", str(partitions), "--port", str(port), "--redis-port", "0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    port = free_port()
    process = await up(2)
    assert process.stdout is not None
    assert b"is up at" in await asyncio.wait_for(process.stdout.readline(), 40)
    url = f"http://127.0.0.1:{port}/jobs"
    async with aiohttp.ClientSession() as session:
        numbers = []
        for _ in range(2):
            async with session.post(url, json={"type": "analytics", "urgency": "normal"}) as answer:
                numbers.append(partition_of((await answer.json())["id"]))
    assert numbers == [0, 1]
    process.terminate()
    await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 0
    process = await up(3)
    _, error = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 2
    assert b"this deployment has 2 partitions, not 3" in error
