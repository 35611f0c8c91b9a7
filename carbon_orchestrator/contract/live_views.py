"""What the gateway answers about what happened and what will, as schemas."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from carbon_orchestrator.contract.house_views import WallTime
from carbon_orchestrator.contract.views import Time
from carbon_orchestrator.events import Pool


class JobEvent(msgspec.Struct, kw_only=True):
    """An event about a job. `id`: of its entry, and its place in that; `source`: who published
    it; `data`: as in `/schemas.json`, by its type."""

    stream: str
    id: Annotated[str, Meta(pattern=r"^[0-9]+-[0-9]+/[0-9]+$")]
    at: WallTime
    type: str
    source: str | None
    data: dict[str, Any]


class JobEvents(msgspec.Struct, kw_only=True):
    """`next`: the cursor of the following page, which may be short, even empty, though others
    follow. `incomplete`: what could not be read, in words."""

    events: list[JobEvent]
    next: str | None
    incomplete: str | None


class Starts(msgspec.Struct, kw_only=True):
    """Jobs that started, or are to start, within `bucket_ms` from `time` on; some of their ids.
    `pool`: None where it is not known yet."""

    time: Time
    pool: Pool | None
    jobs: int
    ids: Annotated[list[str], Meta(max_length=3)]


class JobStarts(msgspec.Struct, kw_only=True):
    """`starts`: of the past; `planned`: those ahead. `complete`: whether these are all in the
    time that was asked for."""

    zone: str
    bucket_ms: int
    starts: list[Starts]
    planned: list[Starts]
    complete: bool


SCHEMAS = (JobEvents, JobStarts)
