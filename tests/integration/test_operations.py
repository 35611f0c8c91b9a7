"""Dead letters by the group, and the record of who did what."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import anyio
import pytest
from deployment import Deploy, Deployment

from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app
from streams.seals import entry_hash
from streams.testing import until


def command(deployment: Deployment, *arguments: str) -> tuple[int, str]:
    """Runs the command line in this process, on a thread of its own."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            status = told(app, [*arguments, "--redis", deployment.url])
        except SystemExit as error:
            status = int(error.code or 0)
    return status, out.getvalue()


async def run(deployment: Deployment, *arguments: str, status: int = 0) -> Any:
    config = deployment.data / "config.toml"
    config.write_text(f'namespace = "{deployment.config.namespace}"\n')
    found, text = await anyio.to_thread.run_sync(
        lambda: command(deployment, *arguments, "--config", str(config), "--json")
    )
    assert found == status, text
    return json.loads(text) if text else None


async def bury(deployment: Deployment, reason: str, stream: str = "jobs") -> str:
    fields: dict[str, str] = {
        "reason": reason,
        "stream": deployment.topology.partition.key(stream),
        "entry": "1-1",
        "original.type": "job.submitted",
        "original.data": '{"type": "quick"}',
    }
    letter = await deployment.redis.xadd(deployment.topology.dead_letters, fields)
    return str(letter.decode())


@pytest.fixture
def letters(deploy: Deploy) -> Deployment:
    return deploy()


async def test_a_group_is_retried_or_dropped_and_the_rest_stays(letters: Deployment) -> None:
    for number in range(3):
        await bury(letters, f"batch item {number}: no such type")
    kept = await bury(letters, "something else 7")
    await bury(letters, "batch item 9: no such type", "completions")
    done = await run(
        letters, "dead-letters", "retry", "--stream", "jobs", "--reason", "batch item 5: no such"
    )
    assert done["retried"] == 3
    assert await letters.redis.xlen(letters.topology.jobs) == 3
    assert await letters.redis.xlen(letters.topology.dead_letters) == 2
    await run(letters, "dead-letters", "drop", "--stream", "completions", status=2)
    done = await run(letters, "dead-letters", "drop", "--stream", "completions", "--yes")
    assert done["dropped"] == 1
    listed = await run(letters, "dead-letters", "list")
    assert [each["id"] for each in listed["dead_letters"]] == [kept]
    await run(letters, "dead-letters", "retry", kept, "--stream", "jobs", status=2)


async def test_more_than_a_page_is_dropped_but_not_what_comes_meanwhile(
    letters: Deployment,
) -> None:
    async with letters.redis.pipeline(transaction=False) as pipeline:
        for number in range(1203):
            pipeline.xadd(letters.topology.dead_letters, {"reason": f"no {number}", "stream": "x"})
        await pipeline.execute()
    done = await run(letters, "dead-letters", "drop", "--reason", "no 1", "--yes")
    assert done["dropped"] == 1203
    assert await letters.redis.xlen(letters.topology.dead_letters) == 0


async def test_letters_that_differ_in_numbers_only_are_one_group(
    letters: Deployment,
) -> None:
    for number in (1, 22, 333):
        await bury(letters, f"processing failed {number} times: job 0b5c7d1e{number:08}")
    await bury(letters, "processing failed for good")
    config = letters.data / "config.toml"
    config.write_text(f'namespace = "{letters.config.namespace}"\n')
    status, text = await anyio.to_thread.run_sync(
        lambda: command(letters, "dead-letters", "list", "--config", str(config))
    )
    rows = text.splitlines()[1:]
    assert status == 0
    assert [row.split()[0] for row in rows] == ["3", "1"]
    assert "processing failed … times: job …" in rows[0]


async def test_every_act_is_an_event_of_the_same_commit(
    letters: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_OPERATOR", "ada")
    first, second = [await bury(letters, "a reason") for _ in range(2)]
    rows = await letters.redis.xrange(letters.topology.dead_letters)
    stored = {
        entry_id.decode(): entry_hash(
            entry_id.decode(), tuple(part for pair in fields.items() for part in pair)
        ).hex()
        for entry_id, fields in rows
    }
    await run(letters, "dead-letters", "retry", first)
    await run(letters, "dead-letters", "drop", second)
    await run(letters, "dead-letters", "drop", second, status=1)  # gone: nothing was done
    events = await letters.events(letters.topology.operations)
    assert [(each.who, each.action, each.subject) for each in events] == [
        ("ada", "dead-letter.retry", first),
        ("ada", "dead-letter.drop", second),
    ]
    assert [each.removed for each in events] == [stored[first], stored[second]]
    assert events[0].detail == {"reason": "a reason", "stream": "jobs", "entry": "1-1"}


async def test_operations_lists_acts_and_starts_of_roles(
    letters: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARBON_OPERATOR", raising=False)
    letters.router()
    await until(lambda: letters.redis.xlen(letters.topology.operations))
    letter = await bury(letters, "a reason")
    await run(letters, "dead-letters", "drop", letter)
    started, dropped = await run(letters, "operations")
    assert (started["action"], started["subject"]) == ("role.started", "router")
    assert (dropped["action"], dropped["subject"]) == ("dead-letter.drop", letter)
    assert "@" in dropped["who"]
    assert await run(letters, "operations", "--limit", "1") == [dropped]


async def test_no_letter_gets_an_operator_to_write_where_nobody_reads(
    letters: Deployment,
) -> None:
    # Whoever may add dead letters says himself where each is from.
    names = letters.topology
    for stream in ("seals", "operations", "deferrals", "dead-letters"):
        await bury(letters, "forged", stream)
    sealed = await letters.redis.xlen(names.seals)
    done = await run(letters, "dead-letters", "retry", "--all", status=1)
    assert done["retried"] == 0
    assert await letters.redis.xlen(names.dead_letters) == 4
    assert await letters.redis.xlen(names.seals) == sealed
    assert await letters.redis.xlen(names.operations) == 0
