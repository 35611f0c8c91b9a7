"""The record of a running deployment, recomputed: nothing diverges, whatever happened."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from audited import audit, divergences, seal, source
from deployment import HIGH, LOW, MEDIUM, Deploy, Deployment
from redis.asyncio import Redis
from test_planning import observed, planning
from test_settling import Ledger
from test_suspension import begun, dirtier, greener

from carbon_orchestrator.audit.comparing import rebuild_and_compare
from carbon_orchestrator.audit.findings import Findings
from carbon_orchestrator.audit.reading import Source, reading
from carbon_orchestrator.audit.rebuild import NotEmpty
from carbon_orchestrator.audit.sums import check_sums
from carbon_orchestrator.audit.totals import cut
from carbon_orchestrator.audit.verify import moment, verify
from carbon_orchestrator.config import PoolConfig, ZoneConfig
from carbon_orchestrator.events import CancelRequested, EmissionsRecorded, JobDispatched
from carbon_orchestrator.topology import CODEC, Topology
from streams.archive import Archive
from streams.archiver import Archiver, Keep
from streams.connection import connect
from streams.consumer import dead_letter
from streams.keys import Partition
from streams.sealing import Sealer
from streams.testing import until


async def lived(house: Deployment) -> None:
    """Deferrals, failures, retries, cancellations of every kind, rejections, dead letters."""
    await house.intensity(HIGH)
    await house.all()
    await house.routing()
    waiting = [await house.post("burn", urgency=u, deadline="2h") for u in ("normal", "flexible")]
    cancelled = await house.post("burn", urgency="flexible")
    for job in (*waiting, cancelled):
        await house.reach(job, "deferred")
    await house.http("DELETE", f"/jobs/{cancelled}")
    await house.publish({"type": "burn", "urgency": "urgent"}, id="7", source="elsewhere")
    await house.publish({"type": "burn", "urgency": "urgent"}, id="7", source="elsewhere")
    await house.publish({"type": "nonsense"})
    await house.publish({"type": "burn", "deadline": "2001-01-01T00:00Z"})
    await house.publish({"type": "burn", "project": "?"})
    await house.publish(b"not JSON")
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    await house.http("DELETE", f"/jobs/{held}")
    await house.intensity(MEDIUM)
    await house.post("broken", payload={"until": 2}, urgency="urgent", max_attempts=3)
    await house.post("broken", urgency="urgent", max_attempts=2)
    await house.intensity(LOW, forecast=[])
    for job in waiting:
        await house.reach(job, "completed")
    await house.reach(held, "cancelled")


async def test_whatever_happened_can_be_recomputed(deploy: Deploy) -> None:
    house = deploy()
    await lived(house)
    while_running = await audit(house)
    assert divergences(while_running) == []
    await until(lambda: _at_rest(house))
    await house.settled()
    await seal(house)
    found = await audit(house)
    assert divergences(found) == []
    assert {kind for kind, tally in found.items() if tally.unchecked} <= {"seals"}
    for kind in ("seals", "submissions", "decisions", "histories", "figures", "totals"):
        assert found[kind].checked, kind


async def _at_rest(house: Deployment) -> bool:
    return not any([await house.ids(state) for state in ("submitted", "deferred", "running")])


@pytest.mark.parametrize("policy", ["threshold", "run_now", "greenest_window", "greenest_slots"])
async def test_decisions_of_every_policy_over_zones_can_be_made_again(
    deploy: Deploy, policy: str
) -> None:
    zones = {"FR": ZoneConfig(signal=["simulated"], pools=("eco",))}
    pools = {"fast": PoolConfig(slots=4), "eco": PoolConfig(slots=4, energy=3)}
    house = deploy(**planning(zones=zones, policy=policy, pools=pools))
    await observed(house, 300, 200, 100, 250)
    await observed(house, 150, 50, 100, 250, zone="FR")
    await house.all()
    house.worker("eco", zone="FR")
    await house.routing()
    fields = {"deadline": "3h", "expected_duration": "1h"}
    where = ([], ["FR"], ["local", "FR"], ["FR", "local"])
    jobs = [await house.post("burn", zones=each, **fields) for each in where for _ in range(2)]
    await house.settled_router()
    await observed(house, 20, 300, 300, 300)
    await observed(house, 10, 300, 300, 300, zone="FR")
    for job in jobs:
        await house.reach(job, "completed")
    dispatched = [
        event
        for stream in house.topology.streams
        for event in await house.events(stream)
        if isinstance(event, JobDispatched)
    ]
    for each in dispatched:
        named = each.spec.zones or ["local"]
        assert (each.decision.zone or "local") in named
    await house.settled()
    found = await audit(house)
    assert divergences(found) == []
    assert found["decisions"].checked >= len(jobs)
    assert await rebuilt_differences(house) == []


async def test_suspensions_and_takeovers_can_be_recomputed(deploy: Deploy) -> None:
    house, worker, job_id = await begun(deploy, "py_saves")
    await dirtier(house)
    await house.reach(job_id, "deferred")
    await greener(house)
    await house.reach(job_id, "running")
    assert divergences(await audit(house)) == []
    # Its worker falls silent: another one takes over.
    worker.role._heartbeat_stop.set()
    other = house.worker("fast")
    await until(lambda: _attempt(house, job_id, "3"), timeout=10)
    house.release()
    await house.reach(job_id, "completed")
    await until(lambda: other.role.running == 0)
    await house.settled()
    found = await audit(house)
    assert divergences(found) == []
    assert found["figures"].checked >= 2
    assert await rebuilt_differences(house) == []


async def rebuilt_differences(house: Deployment) -> list[str]:
    """What a rebuilt deployment has otherwise."""
    target = f"{house.url}/1"
    rebuilt = await rebuild_and_compare(source(house), target, None)
    async with connect(target) as client:
        await client.flushdb()
    return divergences(rebuilt.result.tallies)


async def _attempt(house: Deployment, job_id: str, number: str) -> bool:
    return await house.field(job_id, "attempt") == number


async def _altered(house: Deployment, stream: str, old: bytes, new: bytes) -> None:
    """Change the stream's one entry that says `old`, as whoever has the server's keys can."""
    rows = await house.redis.xrange(stream)
    groups = await house.redis.xinfo_groups(stream)
    await house.redis.delete(stream)
    changed = 0
    for entry_id, fields in rows:
        fields = {name: value.replace(old, new, 1) for name, value in fields.items()}
        changed += fields not in (dict(each) for _, each in rows)
        await house.redis.xadd(stream, fields, id=entry_id)
    assert changed == 1
    for group in groups:
        await house.redis.execute_command(
            *("XGROUP", "CREATE", stream, group["name"], group["last-delivered-id"]),
            *("ENTRIESREAD", len(rows)),
        )


async def test_what_was_altered_is_named_with_both_values(deploy: Deploy) -> None:
    house = deploy()
    await house.intensity(HIGH)
    await house.all()
    await house.routing()
    job = await house.post("burn", payload={"ms": 50}, deadline="2h")
    await house.reach(job, "deferred")
    await house.intensity(LOW)
    await house.reach(job, "completed")
    await house.settled()
    await house.stop()
    assert divergences(await audit(house)) == []

    await _altered(house, house.topology.deferrals, b"deferred: 300 g", b"deferred: 200 g")
    found = await audit(house)
    (one,) = found["decisions"].first
    assert one.what.startswith("reason of the decision")
    assert "300 g/kWh" in str(one.expected)
    assert "200 g/kWh" in str(one.found)
    assert one.place is not None
    assert (one.place.stream, one.place.job) == ("deferrals", job)
    await _altered(house, house.topology.deferrals, b"deferred: 200 g", b"deferred: 300 g")
    assert divergences(await audit(house)) == []

    (day,) = [each.decode() for each in await house.redis.zrange(house.topology.days, 0, -1)]
    totals = house.topology.totals(day)
    field = next(name for name in await house.redis.hkeys(totals) if name.startswith(b"energy_mj"))
    energy = int(await house.redis.hget(totals, field))
    await house.redis.hincrby(totals, field, 1)
    (one,) = (await audit(house))["totals"].first
    assert (one.expected, one.found) == (str(energy), str(energy + 1))
    assert field.decode() in one.what
    assert day in one.what
    await house.redis.hincrby(totals, field, -1)

    emissions = await house.events(house.topology.emissions)
    (burnt,) = [each for each in emissions if isinstance(each, EmissionsRecorded)]
    emitted = b'"emissions_ug":%d' % burnt.emissions_ug
    wrong = b'"emissions_ug":%d' % (burnt.emissions_ug + 1)
    await _altered(house, house.topology.emissions, emitted, wrong)
    found = await audit(house)
    (one,) = found["figures"].first
    assert (one.expected, one.found) == (str(burnt.emissions_ug), str(burnt.emissions_ug + 1))
    assert found["totals"].diverging  # no longer their sum


async def test_what_comes_during_an_audit_accuses_nobody(
    server_url: str, partition: Partition
) -> None:
    ledger = Ledger(server_url, partition)
    findings = Findings()
    await ledger.observe(0, 100.0)
    await ledger.ran(0, 60)
    stream = ledger.topology.emissions
    await ledger.redis.xgroup_create(stream, "accounting", "0")
    async with reading(Source(partition, server_url)) as view:
        await view.prepare()
        ((_, ((entry_id, _),)),) = await ledger.redis.execute_command(
            *("XREADGROUP", "GROUP", "accounting", "c", "STREAMS", stream, ">")
        )
        entry = CODEC.entry(stream, entry_id.decode(), (), 9)
        letter = dead_letter(entry, "accounting", ledger.topology.dead_letters, "given up")
        assert await ledger.committer.apply(letter)
        await ledger._emit(ledger.topology.intensity, CancelRequested(job_id="j"))
        await ledger.ran(0, 60, priced_by=await last_place(ledger))  # out of place, but seen
        await ledger.observe(0, 300.0)
        await ledger.ran(0, 60)
        await check_sums(view, findings)
    assert divergences(findings.tallies) == []
    assert findings.tallies["figures"].checked == 3
    await ledger.runtime.aclose()


async def last_place(ledger: Ledger) -> str:
    *_, (_, _, entry_id) = await ledger._rows(ledger.topology.intensity)
    return f"{entry_id}/0"


async def test_an_archive_without_its_intensities_accuses_nobody(
    server_url: str, partition: Partition, tmp_path: Path
) -> None:
    ledger = Ledger(server_url, partition)
    await ledger.observe(0, 100.0)
    for minute in range(3):
        await ledger.ran(minute, 60)
    await Sealer(ledger.redis, ledger.committer, ["emissions"]).seal()
    await Archiver(ledger.redis, Archive(tmp_path, partition), partition).keep(
        "emissions", Keep(0, 0)
    )
    findings = Findings()
    async with reading(Source(partition, archive=tmp_path)) as view:
        await view.prepare()
        await check_sums(view, findings)
    assert divergences(findings.tallies) == []
    (count,) = findings.tallies["figures"].unchecked.values()
    assert count >= 2
    await ledger.runtime.aclose()


async def test_an_archive_that_has_got_further_with_some_streams_accuses_nobody(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.intensity(HIGH)
    await house.all()
    await house.routing()
    for _ in range(2):
        await house.reach(await house.post("quick", urgency="urgent"), "completed")
    await house.settled()
    await house.stop()
    await seal(house)
    record = source(house)
    assert record.archive is not None
    async with connect(house.url) as client:
        archiver = Archiver(client, Archive(record.archive, record.partition), record.partition)
        for name in ("jobs.urgent", "completions", "emissions", "operations"):
            assert await archiver.keep(name, Keep(0, 0)), name  # of the others there is too little
    result = await verify(source(house, url=None), None, lambda part, count: None, apart=False)
    assert divergences(result.tallies) == []
    assert result.tallies["histories"].unchecked


async def test_absurd_times_are_told_and_the_audit_goes_on(
    server_url: str, partition: Partition
) -> None:
    ledger = Ledger(server_url, partition)
    await ledger.observe(0, 100.0)
    await ledger.ran(0, 60)
    (good,) = await ledger.events(EmissionsRecorded)
    stream = ledger.topology.emissions
    for wrong in ({"at": 10**18}, {"baseline_ms": -1}, {"at": good.started_at - 1}):
        await ledger._emit(stream, msgspec.structs.replace(good, **wrong))
    await ledger.redis.xgroup_create(stream, "accounting", "$")  # as if it had counted them
    findings = Findings()
    async with reading(Source(partition, server_url)) as view:
        await view.prepare()
        await check_sums(view, findings)
    assert findings.tallies["figures"].diverging == 3
    assert [each for each in divergences(findings.tallies) if "cannot be counted" in each]
    await ledger.runtime.aclose()


async def test_records_and_totals_are_rebuilt_from_the_events(deploy: Deploy) -> None:
    house = deploy()
    await lived(house)
    target = f"{house.url}/1"
    for running in (True, False):
        if not running:
            await until(lambda: _at_rest(house))
            await house.settled()
        rebuilt = await rebuild_and_compare(source(house), target, None)
        assert divergences(rebuilt.result.tallies) == []
        assert rebuilt.records >= 8
        with pytest.raises(NotEmpty):
            await rebuild_and_compare(source(house), target, None)
        async with connect(target) as client:
            assert await client.exists(house.topology.ever)
            await client.flushdb()
    assert not rebuilt.result.tallies["records"].unchecked

    job = (await house.ids("completed"))[0]
    key = house.topology.record(job)
    await house.redis.hincrby(key, "emissions_ug", 1)
    rebuilt = await rebuild_and_compare(source(house), target, None)
    (one,) = rebuilt.result.tallies["records"].first
    assert one.what.startswith("emissions_ug")
    assert int(one.found or 0) == int(one.expected or 0) + 1
    await house.redis.hincrby(key, "emissions_ug", -1)
    async with connect(target) as client:
        await client.flushdb()


async def test_what_roles_have_in_hand_is_left_out(redis: Redis, partition: Partition) -> None:
    """A busy deployment: entries are delivered, and not done with yet."""
    topology = Topology(partition)
    taken: dict[str, str] = {}
    for group, stream in (("router", topology.jobs), ("accounting", topology.emissions)):
        done, taken[stream] = [
            (await redis.xadd(stream, {"type": "any", "data": "{}"})).decode() for _ in range(2)
        ]
        await redis.xgroup_create(stream, group, "0")
        await redis.xreadgroup(group, "one", {stream: ">"})
        await redis.xack(stream, group, done)
    _, routers = await moment(redis, partition)
    assert routers == {"jobs": (taken[topology.jobs], frozenset({taken[topology.jobs]}))}
    place = (await cut(redis, topology)).places["emissions"]
    assert place.pending == frozenset({taken[topology.emissions]})
    assert not place.done(taken[topology.emissions])
