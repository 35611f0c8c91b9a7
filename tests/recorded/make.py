"""Makes a record of today, which every later version must be able to audit.

    python tests/recorded/make.py NAME

runs small deployments, one a policy, with deferrals, suspensions, failures, retries, cancellations
and rejections among them, and leaves their archive in tests/recorded/NAME. Records are only
added: an old one that no longer passes is a fault of the version that fails it.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent / "integration")]

from audited import seal  # noqa: E402
from deployment import Deployment, configuration  # noqa: E402
from test_audit import lived  # noqa: E402
from test_planning import observed, planning  # noqa: E402
from test_suspension import TYPES, dirtier, greener, running  # noqa: E402

from carbon_orchestrator.config import PoolConfig, ZoneConfig  # noqa: E402
from carbon_orchestrator.worker.guardian import Guardian  # noqa: E402
from streams.archive import Archive  # noqa: E402
from streams.archiver import Archiver, Keep  # noqa: E402
from streams.connection import connect  # noqa: E402
from streams.keys import Partition  # noqa: E402
from streams.testing import running_server  # noqa: E402

POLICIES = ("threshold", "run_now", "greenest_window", "greenest_slots")


async def planned(house: Deployment) -> None:
    """Jobs over two zones, and one that is suspended and resumed where the policy does so."""
    await observed(house, 300, 200, 100, 250)
    await observed(house, 150, 50, 100, 250, zone="FR")
    await house.all()
    house.worker("eco", zone="FR")
    await house.routing()
    fields = {"deadline": "3h", "expected_duration": "1h"}
    where = ([], ["FR"], ["local", "FR"])
    jobs = [await house.post("quick", zones=each, **fields) for each in where]
    await house.settled_router()
    await observed(house, 20, 300, 300, 300)
    await observed(house, 10, 300, 300, 300, zone="FR")
    for job in jobs:
        await house.reach(job, "completed", timeout=20)
    paused = await running(house, "py_saves")
    if house.config.policy == "greenest_slots":
        await dirtier(house)
        await house.reach(paused, "deferred", timeout=20)
        await greener(house)
        await house.reach(paused, "running", timeout=20)
    house.release()
    await house.reach(paused, "completed", timeout=20)


async def record(url: str, policy: str, directory: Path, guardian: Guardian) -> None:
    """Run one deployment and archive all of it."""
    data = Path(tempfile.mkdtemp(prefix="record-"))
    if policy == "threshold":
        config = configuration(policy)
    else:
        pools = {"fast": PoolConfig(slots=4), "eco": PoolConfig(slots=4, energy=3)}
        zones = {"FR": ZoneConfig(signal=["simulated"], pools=("eco",))}
        types = {**TYPES, **configuration("x").types}
        config = configuration(
            policy, **planning(policy=policy, zones=zones, pools=pools, types=types)
        )
    client = connect(url)
    house = Deployment(url, config, data, guardian, client)
    try:
        await (lived(house) if policy == "threshold" else planned(house))
        await house.settled()
    finally:
        await house.stop()
    for _ in range(3):
        await seal(house)
    partition = Partition(policy)
    archiver = Archiver(client, Archive(directory, partition), partition)
    for stream in house.topology.streams:
        await archiver.keep(partition.name(stream), Keep(0, 0))
    await client.aclose()
    shutil.rmtree(data)


async def main(name: str) -> None:
    """All of them."""
    guardian = Guardian()
    guardian.start()
    with running_server() as server:
        for policy in POLICIES:
            await record(server.url, policy, HERE / name, guardian)
    guardian.close()
    for lock in (HERE / name).rglob("lock"):
        lock.unlink()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
