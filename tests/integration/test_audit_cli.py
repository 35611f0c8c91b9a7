"""`audit verify`, `audit head` and `audit rebuild`, as they are typed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from audited import seal
from deployment import HIGH, LOW, Deploy

from streams.connection import connect

RECORDED = Path(__file__).resolve().parent.parent / "recorded"


async def typed(*words: str) -> tuple[int, str, str]:
    """Status, output and what was said on standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "carbon_orchestrator", "audit", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_an_audit_as_it_is_typed(deploy: Deploy, tmp_path: Path) -> None:
    house = deploy()
    await house.intensity(HIGH)
    await house.all()
    await house.routing()
    job = await house.post("quick", deadline="2h")
    await house.reach(job, "deferred")
    await house.intensity(LOW)
    await house.reach(job, "completed")
    await house.settled()
    config = tmp_path / "config.toml"
    config.write_text(f'namespace = "{house.config.namespace}"\n')
    where = ("--config", str(config), "--archive", str(house.data / "archive"))
    server = ("--redis", house.url, *where)

    await seal(house)
    status, line, _ = await typed("head", *server)
    assert status == 0
    noted = tmp_path / "head"
    noted.write_text(line)
    (status, shown, err), (again, listed, _) = await asyncio.gather(
        typed("verify", *server, "--head", str(noted)),
        typed("verify", *server, "--head", line.split()[0], "--json"),
    )
    assert (status, again) == (0, 0), shown + err
    assert "decisions" in shown
    assert json.loads(listed)["diverging"] == 0
    assert json.loads(listed)["tallies"]["decisions"]["checked"] >= 2

    target = f"{house.url}/1"
    status, out, err = await typed("rebuild", "--into", target, *server)
    assert status == 0, out + err
    status, _, err = await typed("rebuild", "--into", target, *server)
    assert (status, "holds" in err) == (2, True)
    async with connect(target) as client:
        await client.flushdb()

    await house.redis.hincrby(house.topology.ever, "completed|fast|local", 1)
    wrong = f"{noted.read_text().partition(':')[0]}:{'0' * 64}"
    (status, shown, _), (other, more, _) = await asyncio.gather(
        typed("verify", *server), typed("verify", *server, "--head", wrong)
    )
    assert (status, other) == (1, 1)
    assert "totals:ever completed|fast|local is not the sum of its events" in shown
    assert "the seal that was noted down" in more
    await house.redis.hincrby(house.topology.ever, "completed|fast|local", -1)

    ports = typed("verify", "--redis", "redis://127.0.0.1:1", *where)
    alone = typed("verify", "--archive-only", *where)
    nothing = typed("verify", *server, "--head", str(tmp_path / "none"))
    results = await asyncio.gather(ports, alone, nothing)
    assert [status for status, _, _ in results] == [3, 0, 2], results


async def test_an_archive_that_was_copied_elsewhere(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('namespace = "greenest_slots"\n')
    version = sorted(path for path in RECORDED.iterdir() if path.is_dir())[-1]
    where = ("--config", str(config), "--archive", str(version), "--archive-only")
    status, out, err = await typed("verify", *where)
    assert status == 0, out + err
    assert "there is no server: totals are on it alone" in out
