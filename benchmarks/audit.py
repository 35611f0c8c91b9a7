"""How long an audit of a real record takes, and how much memory.

    python -m benchmarks.audit [--events 1000000] [--real 50000]

A deployment of processes runs no-op jobs of all urgencies over a simulated grid played fast, so
that the record holds real decisions. It is written many times over, with other job ids, until it
has so many events; all is sealed, and the older half archived. Then `audit verify` goes over it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from benchmarks.deployment import ROOT, Deployment
from benchmarks.pipeline import completed
from carbon_orchestrator.audit.reading import COMPLETIONS, EMISSIONS, Source, reading
from carbon_orchestrator.audit.sums import home
from carbon_orchestrator.audit.totals import Sums
from carbon_orchestrator.clock import GridClock, from_fields
from carbon_orchestrator.events import EmissionsSettled, JobSubmitted, Urgency
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.submission import submitted_id
from carbon_orchestrator.topology import ACCOUNTING, CODEC, Topology
from streams.archive import Archive
from streams.archiver import Archiver, Keep
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.event import Entry
from streams.keys import Partition
from streams.sealing import Sealer

TOPOLOGY = Topology(Partition("carbon", 0))
#: Jobs published at once, and how many may be under way.
_BATCH, _MOST = 200, 4000
_MIX: tuple[Urgency, ...] = ("urgent", "normal", "normal", "flexible", "flexible")
_SPEED = "3600"  # a step of half an hour of the simulated grid in 0.5 s
_CONFIG = """
default_types = false
drain = "5s"
margin = "50ms"
[threshold]  # green hours are rare, so that jobs wait
low = 0.1
high = 0.4
[pools.fast]
slots = 500
[pools.eco]
slots = 500
[types.noop]
python = "benchmarks.handlers:noop"
expected_duration = "10ms"
"""
#: Intensity entries after which the routers surely know the grid.
_SIGNAL = 8
_PATIENCE_SECONDS = 300.0


async def live(deployment: Deployment, events: int) -> None:
    """Run jobs until about so many events are on record, and all are done."""
    committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
    reader = connect(deployment.server.url)
    reading = Reading(reader, TOPOLOGY)
    chance = random.Random(0)
    published = 0
    # A job is submitted, dispatched, started, completed, burns, and is deferred now and then.
    jobs = events / 6
    began = time.monotonic()
    while int(await reader.xlen(TOPOLOGY.intensity)) < _SIGNAL:
        await asyncio.sleep(0.2)
    done = 0
    while done < published or published < jobs:
        done = await completed(reading)
        if published < jobs and published - done < _MOST:
            await _publish(committer, chance)
            published += _BATCH
        elif time.monotonic() - began > _PATIENCE_SECONDS:
            raise TimeoutError(f"{done} of {published} jobs are done")
        else:
            await asyncio.sleep(0.1)
    print(f"{published} jobs in {time.monotonic() - began:.0f} s", file=sys.stderr)
    await committer.aclose()
    await reader.aclose()


async def _publish(committer: Committer, chance: random.Random) -> None:
    by_lane: list[Transaction] = []
    for _ in range(_BATCH):
        urgency = chance.choice(_MIX)
        event = JobSubmitted(
            type="noop",
            urgency=urgency,
            payload=msgspec.Raw(b'{"rows":%d}' % chance.randrange(10_000)),
            deadline=f"{chance.randrange(1, 24)}h",
        )
        stream = TOPOLOGY.jobs_lane(urgency)
        by_lane.append(Transaction().emit(stream, envelope(event, "bench")))
    await committer.commit(by_lane)


async def multiply(redis: Any, times: int, copies: Topology) -> int:
    """Write the record `times` over as that of another deployment: every job so many times, each
    under ids of its own; intensities and configurations once. Returns how many entries."""
    written = 0
    # Those that later ones refer to keep their ids.
    for stream in (TOPOLOGY.intensity, TOPOLOGY.operations):
        for entry_id, fields in await redis.execute_command("XRANGE", stream, "-", "+"):
            await redis.execute_command("XADD", _copied(stream, copies), entry_id, *fields)
            written += 1
    clock = from_fields(await redis.hgetall(TOPOLOGY.clock))
    lanes = [stream for stream in TOPOLOGY.streams if "dispatch." in stream]
    for stream in (
        *(TOPOLOGY.jobs_urgent, TOPOLOGY.jobs, TOPOLOGY.deferrals, *lanes),
        *(TOPOLOGY.completions, TOPOLOGY.emissions),
    ):
        last = "-"
        while rows := await redis.execute_command("XRANGE", stream, last, "+", "COUNT", 200):
            async with redis.pipeline(transaction=False) as pipeline:
                for entry_id, fields in rows:
                    ms, _, sequence = entry_id.decode().partition("-")
                    entry = CODEC.entry(stream, entry_id.decode(), tuple(fields))
                    for copy in range(times):
                        place = f"{ms}-{int(sequence) * times + copy}"
                        copied = _copy(entry, copy, clock)
                        pipeline.execute_command("XADD", _copied(stream, copies), place, *copied)
                written += len(rows) * times
                await pipeline.execute()
            last = f"({rows[-1][0].decode()}"
    return written


def _copied(stream: str, copies: Topology) -> str:
    return copies.partition.key(TOPOLOGY.partition.name(stream))


def _copy(entry: Entry, copy: int, clock: GridClock) -> list[bytes | str]:
    """The fields of a copy: its jobs have ids that tell the copy, and submissions say theirs."""
    events: list[bytes] = []
    for message in entry.messages:
        event = message.event
        if isinstance(event, JobSubmitted):
            urgent = entry.stream == TOPOLOGY.jobs_urgent
            job_id = submitted_id(message, 0, urgent=urgent)
            at = clock.grid(message.at_ms)
            event = msgspec.structs.replace(event, job_id=job_id, submitted_at=at)
        if isinstance(event, EmissionsSettled) and copy:
            continue  # one settles the same for all
        events.append(_renamed(envelope(event, message.source or ""), copy))
    if entry.fields[0] == b"batch":
        return ["batch", b"[" + b",".join(events) + b"]"]
    (message,) = entry.messages
    data = _renamed(msgspec.json.encode(message.event), copy)
    return ["type", message.event.event_type, "source", message.source or "", "data", data]


_JOB_ID = re.compile(rb'"job_id":"(..)')


def _renamed(event: bytes, copy: int) -> bytes:
    # The first letters of an id are those of its time, or of a hash: put others in their place.
    mark = f"{copy:02d}".encode()
    return _JOB_ID.sub(rb'"job_id":"' + mark, event)


def audited(deployment: Deployment, archive: Path, *more: str) -> dict[str, Any]:
    """What `audit verify` says, how long it took, and its processes' greatest memory."""
    command = [sys.executable, "-m", "carbon_orchestrator", "audit", "verify", "--json"]
    command += ["--redis", deployment.server.url, "--config", str(deployment.config)]
    command += ["--archive", str(archive), *more]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peaks: dict[int, int] = {}
    cpu: dict[int, float] = {}
    try:
        while process.poll() is None:
            _measure(process.pid, peaks, cpu)
            try:
                output, _ = process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    finally:
        process.kill()
    took = time.monotonic() - began
    found: dict[str, Any] = json.loads(output)
    return {
        "status": process.returncode,
        "seconds": round(took, 1),
        "cpu_seconds": [round(each, 1) for each in sorted(cpu.values(), reverse=True)],
        "peak_mb": [round(peak / 1e6) for peak in sorted(peaks.values(), reverse=True)],
        "events": found["tallies"]["histories"]["checked"],
        "checked": {kind: tally["checked"] for kind, tally in found["tallies"].items()},
        "diverging": found["diverging"],
        "unchecked": {k: t["unchecked"] for k, t in found["tallies"].items() if t["unchecked"]},
        "first": [each for tally in found["tallies"].values() for each in tally["first"][:2]],
    }


def _measure(pid: int, peaks: dict[int, int], cpu: dict[int, float]) -> None:
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            peaks[each.pid] = max(peaks.get(each.pid, 0), each.memory_info().rss)
            cpu[each.pid] = sum(each.cpu_times()[:2])
    except psutil.Error:
        pass


async def account(redis: Any, url: str, copies: Topology) -> None:
    """What accounting would have made of the copies: totals, and a group that has read all."""
    async with reading(Source(copies.partition, url)) as view:
        await view.prepare(intensities=False)
        sums = Sums(copies, home(view))
        for stream in (COMPLETIONS, EMISSIONS):
            count, last = 0, "0-0"
            async for page in view.history.pages(stream):
                for entry_id, fields in page:
                    sums.add(CODEC.entry(stream, entry_id, fields))
                count, last = count + len(page), page[-1][0]
            key = copies.partition.key(stream)
            await redis.execute_command(
                "XGROUP", "CREATE", key, ACCOUNTING, last, "ENTRIESREAD", count
            )
    for key, values in sums.hashes.items():
        await redis.hset(key, mapping=values)
    await redis.zadd(copies.days, sums.days)


async def keep(url: str, archive: Path, copies: Topology) -> int:
    """Seal all, and archive the older half; returns how many entries that were."""
    committer = Committer(connect(url), copies.partition)
    redis = connect(url)
    names = [copies.partition.name(stream) for stream in copies.streams]
    sealer = Sealer(redis, committer, names)
    while await sealer.seal() > 1:
        pass
    archiver = Archiver(redis, Archive(archive, copies.partition), copies.partition)
    moved = 0
    for name in names:
        if name not in ("intensity", "dead-letters"):
            half = int(await redis.xlen(copies.partition.key(name))) // 2
            moved += await archiver.keep(name, Keep(1 << 40, half))
    await redis.aclose()
    await committer.aclose()
    return moved


async def run(events: int, real: int) -> dict[str, Any]:
    """The measurement, on a deployment of its own."""
    async with Deployment(config=_CONFIG) as deployment:
        archive = deployment.directory / "archive"
        deployment.start("signal", "signal", "--signal", "simulated", "--speed", _SPEED)
        deployment.start("router", "router")
        deployment.start("accounting", "accounting", "--archive", str(archive))
        deployment.worker("fast", "fast")
        deployment.worker("eco", "eco")
        await live(deployment, real)
        for process in deployment.processes.values():
            process.terminate()
        for process in deployment.processes.values():
            process.wait(30)
        deployment.processes.clear()
        url = deployment.server.url
        copies = Topology(Partition("copies", 0))
        redis = connect(url)
        began = time.monotonic()
        entries = await multiply(redis, max(1, round(events / real)), copies)
        await account(redis, url, copies)
        moved = await keep(url, archive, copies)
        print(f"{entries} entries, made in {time.monotonic() - began:.0f} s", file=sys.stderr)
        await redis.aclose()
        deployment.config.write_text('namespace = "copies"\n' + _CONFIG)
        result = audited(deployment, archive)
        size = sum(each.stat().st_size for each in archive.rglob("*.gz"))
        made = {"entries": entries, "archived": moved, "archive_mb": round(size / 1e6, 1)}
    deployment.remove()
    return made | result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--real", type=int, default=50_000, help="events of the real deployment")
    arguments = parser.parse_args()
    print(json.dumps(uvloop.run(run(arguments.events, arguments.real)), indent=2))


if __name__ == "__main__":
    main()
