"""Audits of a test's deployment, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployment import Deployment

from carbon_orchestrator.audit.findings import Kind, Tally
from carbon_orchestrator.audit.reading import Source
from carbon_orchestrator.audit.verify import verify
from streams.commit import Committer
from streams.connection import connect
from streams.keys import Partition
from streams.proof import Head
from streams.sealing import Sealer


def source(house: Deployment, archive: Path | None = None, **more: Any) -> Source:
    folder = archive if archive is not None else house.data / "archive"
    return Source(Partition(house.config.namespace), archive=folder, **{"url": house.url, **more})


async def audit(house: Deployment, noted: Head | None = None) -> dict[Kind, Tally]:
    """What an audit of everything finds, by kind."""
    result = await verify(source(house), noted, lambda part, count: None, apart=False)
    assert result.failed is None
    return result.tallies


def divergences(tallies: dict[Kind, Tally]) -> list[str]:
    """All of them in words."""
    return [
        f"{kind}: {each.what} expected {each.expected} found {each.found} {each.place}"
        for kind, tally in tallies.items()
        for each in tally.first
    ]


async def seal(house: Deployment) -> None:
    """Seal all that is there."""
    partition = Partition(house.config.namespace)
    committer = Committer(connect(house.url), partition)
    names = [partition.name(stream) for stream in house.topology.streams]
    await Sealer(committer.redis, committer, names).seal()
    await committer.aclose()
