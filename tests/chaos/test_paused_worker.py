"""A worker that slept past its lease wakes to find its job taken: nothing it then says counts."""

from __future__ import annotations

import signal

import pytest

from benchmarks.deployment import Deployment
from benchmarks.invariants import check, resting
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.submission import new_job_id
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.keys import Partition
from streams.testing import until

TOPOLOGY = Topology(Partition("carbon", 0))
CONFIG = """
default_types = false
lease = "1s"
drain = "1s"
[threshold]
mode = "absolute"
low = 2000
high = 3000
[pools.fast]
slots = 2
[pools.eco]
slots = 2
[types.nap]
command = ["sleep", "2"]
expected_duration = "2s"
"""


@pytest.mark.timeout(60)
async def test_the_late_end_of_a_paused_worker_has_no_effect() -> None:
    async with Deployment(config=CONFIG) as house, connect(house.server.url) as redis:
        house.start("signal", "signal", "--speed", "1")
        house.start("router", "router")
        house.start("accounting", "accounting")
        house.worker("sleeper", "fast")
        committer = Committer(connect(house.server.url), TOPOLOGY.partition)
        job_id = new_job_id(0)
        event = JobSubmitted(type="nap", urgency="urgent", job_id=job_id)
        await committer.apply(Transaction().emit(TOPOLOGY.jobs_urgent, envelope(event, "test")))
        await committer.aclose()
        key = TOPOLOGY.record(job_id)
        await until(lambda: redis.hexists(key, "1.started"), 20)
        sleeper = house.processes["sleeper"]
        sleeper.send_signal(signal.SIGSTOP)
        house.worker("heir", "fast")
        await until(lambda: redis.hexists(key, "2.started"), 20)
        sleeper.send_signal(signal.SIGCONT)
        await until(lambda: resting(redis, TOPOLOGY), 20)
        log = house.directory / "roles.log"
        await until(
            lambda: (
                "end of attempt not counted" in log.read_text() or "lease lost" in log.read_text()
            ),
            10,
        )
        record = {_text(name): _text(value) for name, value in (await redis.hgetall(key)).items()}
        findings = await check(redis, TOPOLOGY, [job_id])
    house.remove()
    assert findings.wrong == []
    assert findings.lost == []
    assert record["state"] == "completed"
    assert [name for name in record if name.endswith(".finished")] == ["2.finished"]
    assert findings.counts["takeovers"] == 1


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
