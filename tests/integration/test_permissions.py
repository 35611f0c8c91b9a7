"""Every role as the user that the ACL file gives it, on a server that has loaded that file."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from deployment import TYPES, Deploy, Deployment, Part, configuration
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from test_live_events import reading
from test_planning import observed, planning
from test_suspension import TYPES as PAUSING

from carbon_orchestrator.accounting.record_keeping import RecordKeeping
from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app
from carbon_orchestrator.cli.operations import latest
from carbon_orchestrator.config import PoolConfig, Retention
from carbon_orchestrator.doctor import examine, gather
from carbon_orchestrator.gateway.door.keyring import create_key, revoke_key
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.intake.held import Held
from carbon_orchestrator.operations import acted
from carbon_orchestrator.permissions import ROLES, acl, new_passwords
from carbon_orchestrator.runtime import Runtime
from streams.archive import Archive
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.dead_letters import DeadLetters
from streams.embedded import EmbeddedServer, server_program
from streams.errors import Forbidden, Refused, WriteFailed
from streams.history import History
from streams.keys import Partition
from streams.proof import prove
from streams.testing import running_server, until

NAMESPACE = "fenced"
ROOMY: dict[str, PoolConfig] = {
    "fast": PoolConfig(slots=4, capacity=4),
    "eco": PoolConfig(slots=4, capacity=4, energy=3),
}


class Fenced:
    """A server that knows the roles of one namespace, and nobody else."""

    def __init__(self, server: EmbeddedServer, passwords: dict[str, str]) -> None:
        self._port = server.port
        self.passwords = passwords

    def url(self, role: str) -> str:
        login = f"{NAMESPACE}-{role}:{self.passwords[role]}"
        return f"redis://{login}@127.0.0.1:{self._port}/0"

    def client(self, role: str) -> Redis:
        return Redis.from_url(self.url(role))

    async def denials(self) -> list[tuple[str, str, str]]:
        async with self.client("admin") as admin:
            found = await admin.acl_log()
        return [(each["username"], each["reason"], each["object"]) for each in found]


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fenced]:
    folder = tmp_path_factory.mktemp("acl")
    rules, program = folder / "users.acl", folder / "server"
    rules.touch()
    program.write_text(f'#!/bin/sh\nexec {server_program()} "$@" --aclfile {rules}\n')
    program.chmod(0o700)
    passwords = new_passwords()
    with running_server(str(program)) as server:
        rules.write_text("".join(f"{line}\n" for line in acl(NAMESPACE, passwords)))

        async def load() -> None:
            async with connect(server.url) as client:
                await client.execute_command("ACL", "LOAD")

        asyncio.run(load())
        yield Fenced(server, passwords)


@pytest.fixture
def quiet() -> Iterator[None]:
    """What a role logs when it is refused: drawing tracebacks of it takes seconds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def emptied(fenced: Fenced) -> Fenced:
    async with fenced.client("admin") as admin:
        await admin.flushall()
        await admin.acl_log_reset()
    return fenced


def started(house: Deployment, fenced: Fenced, role: str, start: Any) -> Part:
    """A role of the deployment, as its own user."""
    house.url = fenced.url(role)
    try:
        part: Part = start()
    finally:
        house.url = fenced.url("admin")
    return part


async def until_over(part: Part) -> None:
    """As the command line runs it: a refusal is raised at the end."""
    async with asyncio.timeout(20):
        await part.task
    part.runtime.check()


async def the_record_is_kept(house: Deployment, fenced: Fenced) -> None:
    """Accounting seals, archives and trims; a reader proves it; an operator makes a key."""
    nothing_kept = Retention(streams=0, max_entries=1)
    config = msgspec.structs.replace(house.config, retention=nothing_kept)
    runtime = Runtime(fenced.url("accounting"), config)
    records = RecordKeeping(runtime, house.data / "archive")
    before = await house.redis.xlen(house.topology.completions)
    await records.seal()
    await records.archive()
    await runtime.aclose()
    assert runtime.refused is None
    assert await house.redis.xlen(house.topology.completions) < before
    partition = house.topology.partition
    async with connect(fenced.url("reader")) as reader:
        past = History(reader, Archive(house.data / "archive", partition), partition)
        assert (await prove(past)).findings == []
    async with connect(fenced.url("operator")) as operator:
        key = ApiKey(name="ci", scopes=("submit",), sha256="", created=0)
        committer = Committer(operator, partition)
        text = await create_key(committer, house.topology, "ada", key)
        key_id = text.split("_")[1]
        async with connect(fenced.url("gateway")) as gateway:
            held = Held(gateway, house.topology, 1)
            for job_id in ("one", "two"):
                counted = Transaction()
                counted.put(house.topology.held(key_id), 1, job_id)
                await Committer(gateway, partition).apply(counted)
            assert await held.tally(key_id).known() == 2
            assert await held.has(key_id, "one")
            await held.sweep(key_id)  # no such jobs are on record
            assert not await held.has(key_id, "one")
        await revoke_key(operator, committer, house.topology, "ada", key_id)


async def test_every_role_works_as_its_own_user_and_is_denied_nothing(
    deploy: Deploy, emptied: Fenced
) -> None:
    house = deploy(
        fenced_url := emptied.url("admin"),
        NAMESPACE,
        **planning(types={**TYPES, **PAUSING}, pools=ROOMY),
    )
    assert house.url == fenced_url
    signal = started(house, emptied, "signal", lambda: house.signal(speed=1))
    await until(lambda: house.redis.xlen(house.topology.intensity))
    await signal.stop()
    await observed(house, 100, 300, 300, 300)
    for pool in ("fast", "eco"):
        started(house, emptied, "worker", lambda pool=pool: house.worker(pool))
    started(house, emptied, "router", house.router)
    started(house, emptied, "accounting", house.accounting)
    house.url = emptied.url("gateway")
    await house.gateway()
    house.url = emptied.url("admin")
    await house.routing()

    paused = await house.post("saves", deadline="5h", expected_duration="2h", interruptible=True)
    await house.reach(paused, "running", timeout=15)
    await until((house.data / "begun").exists)
    await observed(house, 300, 300, 50, 50, 50)
    await house.reach(paused, "deferred")
    waiting = await house.post("quick", deadline="5h", expected_duration="1h")
    unwanted = await house.post("quick", deadline="5h", expected_duration="1h")
    await house.reach(unwanted, "deferred")
    assert (await house.http("DELETE", f"/jobs/{unwanted}")).status == 202
    await house.reach(unwanted, "cancelled")
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    assert (await house.http("GET", f"/jobs/{held}")).status == 200  # and how far it is
    assert (await house.http("DELETE", f"/jobs/{held}")).status == 202
    await house.reach(held, "cancelled")
    retried = await house.post("broken", urgency="urgent", payload={"until": 2})
    async with emptied.client("publisher") as publisher:
        await publisher.xadd(
            house.topology.jobs_urgent, {"type": "job.submitted", "data": '{"type": "quick"}'}
        )
        await publisher.xadd(house.topology.jobs, {"type": "job.submitted", "data": "{"})
    await until(house.dead_letters)
    house.release()
    await observed(house, 10, 300, 300, 300)
    for job_id in (paused, waiting, retried):
        await house.reach(job_id, "completed", timeout=15)
    await house.counted("completed", 4)
    for path in ("/health", "/metrics", "/jobs", "/carbon", "/emissions", "/overview", "/pools"):
        assert (await house.http("GET", path)).status == 200, path
    for path in ("/carbon/starts", f"/jobs/{paused}/events", f"/jobs/{paused}/logs"):
        assert (await house.http("GET", path)).status == 200, path
    async with reading(house, "?project=mine") as reader:
        await house.post("quick", urgency="urgent", project="mine")
        assert (await reader.event("job.started"))["data"]["pool"] == "fast"
    (seen,) = (await house.http("GET", "/dead-letters")).body["letters"]
    done = await house.http("POST", "/dead-letters/retry", json={"ids": [seen["id"]]})
    assert done.body["done"] == 1, done.body
    await until(house.dead_letters)  # undecodable as ever

    async with connect(emptied.url("operator")) as operator:
        letters = DeadLetters(operator, Committer(operator, Partition(NAMESPACE)))
        (letter,) = await letters.list()
        also = acted(house.topology, "ada", "dead-letter.retry", letter.id)
        assert await letters.retry_all([letter], lambda _: also) == [True]
        await until(house.dead_letters)  # undecodable as ever
        assert len(examine(await gather(operator, house.topology, house.config))) > 10
    async with connect(emptied.url("reader")) as reader:
        actions = [each.action for each in await latest(reader, house.topology.operations, 100)]
        assert actions.count("role.started") >= 5
        assert "dead-letter.retry" in actions
    await house.stop()
    await the_record_is_kept(house, emptied)
    # What `doctor` asks, and may be refused, is all that anybody was refused.
    assert {each for each in await emptied.denials() if "config" not in each[2]} == set()


async def test_all_roles_in_one_process_need_one_user(deploy: Deploy, emptied: Fenced) -> None:
    house = deploy(emptied.url("admin"), NAMESPACE)
    house.url = emptied.url("up")
    signal = house.signal(speed=1)
    await until(lambda: house.redis.xlen(house.topology.intensity))
    await house.all()
    job_id = await house.post("quick", urgency="urgent")
    await house.reach(job_id, "completed")
    await house.settled()
    await house.stop()
    assert signal.runtime.refused is None
    house.url = emptied.url("admin")
    assert await emptied.denials() == []


FORBIDDEN: dict[str, list[tuple[str, ...]]] = {
    "worker": [
        ("XADD", "intensity", "*", "type", "x"),
        ("XADD", "jobs", "*", "type", "x"),
        ("XADD", "seals", "*", "type", "x"),
        ("HSET", "totals:2026-01-01", "a", "1"),
        ("HINCRBY", "totals:2026-01-01", "a", "1"),
        ("HGETALL", "api-keys"),
        ("HSET", "api-keys", "a", "1"),
        ("HSET", "clock", "a", "1"),
        ("HSET", "chain", "a", "1"),
        ("XTRIM", "completions", "MAXLEN", "0"),
        ("XDEL", "completions", "1-1"),
        ("XRANGE", "completions", "-", "+"),
        ("EVAL", "return redis.call('HSET', KEYS[1], 'a', 1)", "1", "totals:2026-01-01"),
    ],
    "gateway": [
        ("HSET", "totals:2026-01-01", "a", "1"),
        ("HSET", "api-keys", "a", "1"),
        ("XADD", "completions", "*", "type", "x"),
        ("XADD", "intensity", "*", "type", "x"),
        ("XADD", "emissions", "*", "type", "x"),
        ("XDEL", "jobs", "1-1"),
    ],
    "signal": [("HGETALL", "job:a"), ("XADD", "jobs", "*", "type", "x")],
    "router": [("XADD", "completions", "*", "type", "x"), ("HGETALL", "api-keys")],
    "accounting": [("HSET", "job:a", "state", "x"), ("HGETALL", "api-keys")],
    "operator": [("HSET", "totals:2026-01-01", "a", "1"), ("XDEL", "completions", "1-1")],
    "reader": [
        ("HGETALL", "api-keys"),
        ("HSET", "job:a", "state", "x"),
        ("XADD", "jobs", "*", "type", "x"),
    ],
    "publisher": [
        ("XRANGE", "jobs", "-", "+"),
        ("HGETALL", "job:a"),
        ("XADD", "dispatch.fast", "*", "type", "x"),
        ("EVAL", "return 1", "0"),
    ],
}
SERVER_WIDE = [
    each.split()
    for each in (
        *("FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "SHUTDOWN", "SCRIPT FLUSH"),
        *("SCRIPT LOAD x", "FUNCTION LIST", "ACL LIST", "ACL SETUSER x"),
        *("CLIENT LIST", "CLIENT KILL ID 1", "MONITOR", "REPLICAOF NO ONE", "SAVE"),
        *("MODULE LIST", "SWAPDB 0 1", "SUBSCRIBE x", "PUBLISH x y", "RANDOMKEY", "GET secret"),
    )
]


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_nothing_else(role: str, fenced: Fenced) -> None:
    key = Partition(NAMESPACE).key
    plain = {"*", "-", "+", "MAXLEN", "0", "a", "1", "type", "x", "state", "1-1"}
    async with fenced.client(role) as client:
        for command in SERVER_WIDE:
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)
        for name, first, *rest in FORBIDDEN.get(role, []):
            if name == "EVAL":
                rest = [key(each) if ":" in each else each for each in rest]
            else:
                first = key(first)
                assert set(rest) <= plain
            with pytest.raises(NoPermissionError):
                await client.execute_command(name, first, *rest)


async def test_a_script_does_what_its_caller_may_and_no_more(fenced: Fenced) -> None:
    """Keys that a role may consume only, it cannot add to, by a script either."""
    text = "return redis.call('XADD', KEYS[1], '*', 'type', 'x')"
    async with fenced.client("worker") as client:
        with pytest.raises(ResponseError, match=r"(?i)no permissions|can't run this command"):
            await client.eval(text, 1, Partition(NAMESPACE).key("dispatch.fast"))
        assert await client.eval(text, 1, Partition(NAMESPACE).key("completions"))


@pytest.mark.usefixtures("quiet")
async def test_a_missing_permission_ends_the_role_and_is_named(
    deploy: Deploy, emptied: Fenced
) -> None:
    house = deploy(emptied.url("admin"), NAMESPACE)
    part = started(house, emptied, "worker", house.accounting)
    house.parts.remove(part)
    with pytest.raises(Forbidden) as refusal:
        await until_over(part)
    text = str(refusal.value)
    assert f"{NAMESPACE}:{{0}}:" in text
    assert re.match(r"the server forbids [A-Z]+ on ", text)
    assert emptied.passwords["worker"] not in text


async def test_a_write_forbidden_inside_a_commit_is_told_to_the_runtime(emptied: Fenced) -> None:
    house = Runtime(emptied.url("worker"), configuration(NAMESPACE))
    committer = house.committer()
    with pytest.raises(WriteFailed):  # its key is a worker's, but not to add to
        await committer.apply(Transaction().add_entry(house.topology.dispatch("fast"), ["a", "b"]))
    assert isinstance(house.refused, Forbidden)
    assert house.stop.is_set()
    await house.aclose()


async def test_a_wrong_password_ends_the_role_at_once(emptied: Fenced, deploy: Deploy) -> None:
    house = deploy(emptied.url("admin"), NAMESPACE)
    house.url = emptied.url("admin").replace(emptied.passwords["admin"], "wrong-password")
    part = house.router()
    house.parts.remove(part)
    house.url = emptied.url("admin")
    with pytest.raises(Refused, match="login") as refusal:
        await until_over(part)
    assert "wrong-password" not in str(refusal.value)


def command(*arguments: str) -> tuple[int, str, str]:
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = told(app, list(arguments))
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, out.getvalue(), error.getvalue()


def test_doctor_prints_the_acl_file_and_keeps_the_passwords_apart(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('namespace = "mine"\n')
    status, plain, hint = command("doctor", "--acl", "--config", str(config))
    lines = plain.splitlines()
    assert status == 0
    assert all(line.startswith("user ") and line.split()[2] == "off" for line in lines)
    assert {line.split()[1] for line in lines} >= {"default", "mine-worker", "mine-admin"}
    assert "--passwords" in hint
    secret = tmp_path / "passwords"
    arguments = ("doctor", "--acl", "--passwords", str(secret), "--config", str(config))
    status, hashed, _ = command(*arguments)
    made = dict(line.split() for line in secret.read_text().splitlines())
    assert status == 0
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert set(made) == {f"mine-{role}" for role in ("admin", *ROLES)}
    assert not any(password in hashed for password in made.values())
    assert hashed.count(" on #") == len(made)
    assert command("doctor", "--passwords", str(secret))[0] == 2


def test_passwords_that_are_there_stay(tmp_path: Path) -> None:
    secret = tmp_path / "passwords"
    arguments = ("doctor", "--acl", "--passwords", str(secret))
    _, first, _ = command(*arguments)
    lines = secret.read_text().splitlines(keepends=True)
    assert command(*arguments)[:2] == (0, first)
    assert secret.read_text() == "".join(lines)
    secret.write_text("".join(lines[1:]).rstrip("\n"))
    _, again, _ = command(*arguments)
    assert secret.read_text().splitlines(keepends=True)[:-1] == lines[1:], "a new one is added"
    known = [line for line in first.splitlines() if "carbon-admin" not in line]
    assert [line for line in again.splitlines() if "carbon-admin" not in line] == known
    secret.write_text("carbon-worker\n")
    status, _, told = command(*arguments)
    assert status == 2
    assert "line 1" in told
