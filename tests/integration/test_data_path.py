"""A job's way through all components, and the books that are kept on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import msgspec
from deployment import HIGH, LOW, MEDIUM, TYPES, Deploy, Deployment, command_type
from redis.asyncio import Redis
from structlog.testing import capture_logs

from carbon_orchestrator.config import Config, JobType, complete
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.gateway.intake.tally import COUNT_SECONDS
from carbon_orchestrator.submission import derived_job_id
from streams.codec import envelope
from streams.embedded import EmbeddedServer
from streams.testing import until

SUMS = ("energy_mj", "emissions_ug", "baseline_ug", "unpriced_mj")


async def books_balance(deployment: Deployment, jobs: list[str]) -> Counter[str]:
    """The totals, which must be the sums of the jobs' records to the unit."""
    await deployment.settled()
    totals = await deployment.sums()
    parts: Counter[str] = Counter()
    for job_id in jobs:
        job = await deployment.job(job_id)
        parts[job["state"]] += 1
        parts["attempts"] += len(job["runs"])
        parts["run_ms"] += sum(run["run_ms"] for run in job["runs"])
        for name in SUMS:
            of_record = int(await deployment.field(job_id, name) or 0)
            assert of_record == sum(run.get(name, 0) for run in job["runs"]), (name, job)
            parts[name] += of_record
    for name in (*SUMS, "attempts", "run_ms", "completed", "failed"):
        assert totals[name] == parts[name], name
    return totals


async def test_posted_to_completed_with_reasons_energy_and_emissions(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.intensity(MEDIUM)
    await until(lambda: house.gateways[0].role._house._grids.home.latest)
    job_id = await house.post("burn", urgency="normal", project="vision", payload={"ms": 20})
    await house.reach(job_id, "completed")
    job = await house.job(job_id)
    steps = [each["event"] for each in job["timeline"]]
    assert steps == ["submitted", "dispatched", "started", "completed"]
    assert (job["pool"], job["attempts"], job["project"]) == ("eco", 1, "vision")
    dispatched = job["timeline"][1]
    assert "150 g/kWh is medium" in dispatched["reason"]
    assert (dispatched["intensity"], dispatched["band"]) == (150.0, "medium")
    assert job["energy_mj"] > 0
    assert job["energy_method"] == "cpu-time-model" or job["energy_method"]
    priced = job["energy_mj"] * 150 / 3600
    assert abs(job["emissions_ug"] - priced) <= 1
    assert job["unpriced_mj"] == 0
    await books_balance(house, [job_id])
    report = (await house.http("GET", "/emissions?by=project,type,pool,zone")).body
    assert [row["project"] for row in report["rows"]] == ["vision"]
    assert report["rows"][0]["emissions_ug"] == job["emissions_ug"]
    assert report["rows"][0]["avoided_ug"] == job["avoided_ug"]


async def test_totals_are_the_sum_of_the_records_whatever_happened_to_the_jobs(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.all()
    await house.intensity(MEDIUM)
    jobs = [
        await house.post(kind, urgency=urgency, project=project, max_attempts=2, payload=payload)
        for kind, payload in (("burn", {"ms": 3}), ("broken", {}), ("broken", {"until": 2}))
        for urgency in ("urgent", "normal")
        for project in ("a", "b")
    ]
    cancelled = await house.post("hold", urgency="urgent")
    await house.reach(cancelled, "running")
    await house.intensity(LOW)
    await house.http("DELETE", f"/jobs/{cancelled}")
    for job_id in jobs:
        await house.reach(job_id, "completed", "failed")
    await house.reach(cancelled, "cancelled")
    totals = await books_balance(house, [*jobs, cancelled])
    assert (totals["completed"], totals["failed"], totals["cancelled"]) == (8, 4, 1)
    assert totals["attempts"] == 4 + 8 + 8 + 1


async def test_the_default_types_run_as_they_stand(deploy: Deploy) -> None:
    house = deploy(default_types=True)
    await house.all()
    # No signal: normal work goes to ECO at once.
    jobs = [await house.post(kind) for kind in ("analytics", "inference")]
    for job_id in jobs:
        await house.reach(job_id, "completed", timeout=30)
        assert (await house.job(job_id))["runs"][0]["output"]
    await books_balance(house, jobs)


async def test_a_bare_entry_of_any_client_runs(deploy: Deploy, server_url: str) -> None:
    house = deploy()
    await house.all()
    async with Redis.from_url(server_url) as anyone:
        entry_id = await anyone.xadd(
            f"{house.config.namespace}:{{0}}:jobs",
            {"type": "job.submitted", "data": '{"type":"quick","urgency":"normal"}'},
        )
    (job_id,) = await house.counted("completed", 1)
    assert job_id == derived_job_id(0, "entry", entry_id.decode(), "0")
    assert (await house.job(job_id))["runs"][0]["output"] == '{"echo":{}}\n'


async def test_an_unknown_type_is_rejected_with_the_reason(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.publish({"type": "nonsense", "project": "x"})
    (job_id,) = await house.counted("rejected", 1)
    job = await house.job(job_id)
    assert "no type 'nonsense' is configured; known: broken, burn" in job["reason"]
    assert [each["event"] for each in job["timeline"]] == ["submitted", "rejected"]
    (event,) = await house.events(house.topology.deferrals)
    assert (event.event_type, event.reason) == ("job.rejected", job["reason"])
    assert await house.redis.ttl(house.topology.record(job_id)) > 0


async def test_a_passed_deadline_is_rejected_with_the_reason(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.publish({"type": "quick", "deadline": "2001-01-01T00:00:00Z"})
    (job_id,) = await house.counted("rejected", 1)
    assert "2001-01-01T00:00:00.000Z is over" in (await house.job(job_id))["reason"]


async def test_what_cannot_be_understood_is_kept_as_it_came_and_stops_nothing(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.all()
    jobs = house.topology.jobs
    bad: list[dict[bytes, bytes]] = [
        {b"type": b"job.submitted", b"data": b'{"type":"quick","urgency":"asap"}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick"'},
        {b"type": b"job.submitted", b"data": b'{"urgency":"normal"}'},
        {b"type": b"job.submitted", b"data": b"\xff\x00\xfe"},
        {b"type": b"job.submitted"},
        {b"data": b'{"type":"quick"}'},
        {b"type": b"job.sung", b"data": b"{}", b"extra": b"\x80"},
        {b"type": b"job.started", b"data": b'{"job_id":"x"}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","payload":[1]}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","payload":{"a":"\xff"}}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","deadline":"soon"}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","labels":{"|":""}}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","max_attempts":0}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","timeout":-1}'},
        {b"type": b"job.submitted", b"data": b'{"type":"quick","project":"a|b"}'},
        {b"batch": b'{"no":"array"}'},
    ]
    for fields in bad:
        await house.redis.xadd(jobs, fields)
    await house.publish({"type": "quick"})
    await house.counted("completed", 1)

    async def buried() -> bool:
        return len(await house.dead_letters()) == len(bad)

    await until(buried)
    letters = await house.dead_letters()
    for fields in bad:
        kept = {b"original." + name: value for name, value in fields.items()}
        (letter,) = [
            each
            for each in letters
            if kept.items() <= each.items()
            and len(kept) == sum(name.startswith(b"original.") for name in each)
        ]
        assert letter[b"reason"]
        assert letter[b"stream"] == jobs.encode()
    reasons = b"\n".join(each[b"reason"] for each in letters)
    for word in (
        b"'asap'",
        b"`type`",
        b"job.sung",
        b"JSON object",
        b"labels",
        b"timeout: a",
    ):
        assert word in reasons, word
    await house.settled()


async def test_strange_numbers_in_an_entry_stop_nothing(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    for name in ("submitted_at", "deadline", "expected_duration", "timeout"):
        for value in (10**18, -(10**18), 2**63 - 1, 1e300, 0):
            if name != "submitted_at" or isinstance(value, int):
                await house.publish({"type": "quick", name: value})
    last = await house.publish({"type": "quick"})
    await house.reach(derived_job_id(0, "entry", last, "0"), "completed")
    await house.settled()


async def test_an_entry_may_carry_many_jobs_good_and_bad(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    events = [envelope(JobSubmitted(type="quick", project=f"p{i}"), "cron") for i in range(250)]
    events[100] = b'{"type":"job.submitted","data":{"type":"quick","urgency":"asap"}}'
    events[200] = b'{"type":"job.submitted","data":{"type":"quick","project":"a|b"}}'
    await house.redis.xadd(house.topology.jobs, {"batch": b"[" + b",".join(events) + b"]"})
    done = await house.counted("completed", 248)
    projects = {json.loads(await house.field(each, "spec") or "")["project"] for each in done}
    assert len(projects) == 248
    await until(lambda: house.redis.xlen(house.topology.dead_letters))
    letters = await house.dead_letters()
    assert len(letters) == 2
    assert {letter[b"original.batch"] for letter in letters} >= {b"[" + events[100] + b"]"}


async def test_one_source_and_id_is_one_job_however_often_it_comes(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    for _ in range(3):
        await house.publish({"type": "quick"}, source="/cron", id="night-1")
    await house.publish({"type": "quick"}, source="/other", id="night-1")
    await house.publish({"type": "quick"})
    await house.counted("completed", 3)
    await house.settled()
    assert len(await house.ids("completed")) == 3
    assert (await house.sums())["completed"] == 3


async def test_a_job_of_the_same_id_in_both_lanes_runs_once(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    event = {"type": "quick"}
    await asyncio.gather(
        *(
            house.publish(event, stream, source="s", id="1")
            for stream in (house.topology.jobs, house.topology.jobs_urgent) * 5
        )
    )
    await house.counted("completed", 1)
    await house.settled()
    assert (await house.sums())["attempts"] == 1


async def test_a_job_that_the_router_does_not_accept_any_more_is_rejected(deploy: Deploy) -> None:
    """The gateway took it under another configuration."""
    generous = deploy()
    await generous.gateway()
    big = await generous.post("quick", payload={"text": "x" * 1000})
    other = await generous.post("hold")
    strict = deploy(
        namespace=generous.config.namespace,
        limits=msgspec.structs.replace(generous.config.limits, max_payload=100),
        types={"quick": TYPES["quick"]},
    )
    strict.router()
    await strict.reach(big, "rejected")
    await strict.reach(other, "rejected")
    assert "over 100 bytes" in (await generous.job(big))["reason"]
    assert "no type 'hold'" in (await generous.job(other))["reason"]


async def test_commands_get_payload_and_environment(deploy: Deploy) -> None:
    house = deploy(
        types={"show": command_type("sh", "-c", "cat; echo; echo $CARBON_ATTEMPT $CARBON_POOL")}
    )
    await house.all()
    job_id = await house.post("show", urgency="urgent", payload={"a": [1, 2]})
    await house.reach(job_id, "completed")
    (run,) = (await house.job(job_id))["runs"]
    assert run["output"].split("\n")[:2] == ['{"a": [1, 2]}', "1 fast"]
    assert run["exit_code"] == 0


async def test_roles_may_start_in_any_order(deploy: Deploy) -> None:
    house = deploy()
    house.worker("eco")
    house.accounting()
    await house.intensity(MEDIUM)
    await house.publish({"type": "quick"})
    house.worker("fast")
    await house.gateway()
    posted = await house.post("quick", urgency="urgent")
    house.router()
    await house.reach(posted, "completed")
    await house.counted("completed", 2)


async def test_two_of_each_count_once(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    house.router()
    house.accounting()
    house.worker("fast")
    house.worker("eco")
    await house.intensity(MEDIUM)
    jobs = [
        await house.post("burn", urgency=each, payload={"ms": 1})
        for each in ("urgent", "normal") * 15
    ]
    await house.counted("completed", 30, timeout=10)
    totals = await books_balance(house, jobs)
    assert totals["attempts"] == totals["completed"] == 30


async def test_roles_wait_for_a_server_that_is_not_there_yet(
    own_server: EmbeddedServer, deploy: Deploy
) -> None:
    """And go on where they were after it was killed, with nothing lost."""
    await own_server.stop()
    house = deploy(url=own_server.url)
    with capture_logs() as logs:
        house.router()
        house.accounting()
        workers = [house.worker("fast"), house.worker("eco")]
        await until(lambda: sum("waiting" in each["event"] for each in logs) >= 3)
    assert not any(part.task.done() for part in house.parts)
    await own_server.start()
    await house.gateway()
    await house.intensity(HIGH)
    deferred = await house.post("quick", urgency="flexible", deadline=60)
    running = await house.post("hold", urgency="urgent")
    await house.reach(running, "running")
    await house.reach(deferred, "deferred")
    await own_server.stop()
    tally = house.gateways[0].role._parts[0].room.unfinished
    await until(lambda: time.monotonic() > tally.counted + COUNT_SECONDS)
    answer = await house.http("POST", "/jobs", json={"type": "quick"})
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert (await house.http("GET", f"/jobs/{running}")).status == 503
    assert (await house.http("GET", "/livez")).status == 200
    assert (await house.http("GET", "/readyz")).status == 503
    house.release()
    await until(lambda: not any(part.role.executor._running for part in workers))
    await own_server.start()
    await house.redis.connection_pool.disconnect()
    await house.reach(running, "completed", timeout=10)
    await house.intensity(LOW)
    await house.reach(deferred, "completed", timeout=10)
    assert (await house.ends(running)) == {"job.started": 1, "job.completed": 1}
    await books_balance(house, [running, deferred])


def test_the_defaults_are_a_whole_configuration() -> None:
    config = complete(Config())
    assert set(config.types) == {"analytics", "training", "inference"}
    assert complete(Config(types={"x": JobType(command=["true"])})).types.keys() > {"x"}


async def test_output_is_bounded(deploy: Deploy, tmp_path: Path) -> None:
    house = deploy(types={"loud": command_type("sh", "-c", "yes | head -c 1000000; echo end")})
    await house.all()
    job_id = await house.post("loud", urgency="urgent")
    await house.reach(job_id, "completed")
    (run,) = (await house.job(job_id))["runs"]
    assert len(run["output"]) <= house.config.limits.output_tail
    assert run["output"].endswith("y\nend\n")
    assert run["output_bytes"] == 1_000_004
