"""What was recorded, chosen by stream, type, job and project, in the order in which it came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.submission import submitted_id
from carbon_orchestrator.topology import CODEC
from streams.event import Message
from streams.history import BEGIN, History


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Streams by their names in the partition; ids as `History.merged` takes them. No types: all
    types. Of a project are the events that name it, and those of jobs that such a one was about
    before."""

    streams: tuple[str, ...]
    types: frozenset[str] = frozenset()
    job: str | None = None
    project: str | None = None
    after: str = BEGIN
    until: str | None = None


class Recorded(msgspec.Struct, frozen=True):
    """One event as it stands in the record; without a message it cannot be decoded: `fault`."""

    stream: str
    entry_id: str
    index: int
    fields: tuple[bytes, ...]  # of its whole entry
    message: Message | None
    job_id: str | None = None
    fault: str = ""


async def select(history: History, selection: Selection) -> AsyncIterator[Recorded]:
    """The events that are chosen, oldest first. Raises ArchiveError, OSError."""
    partition = history.partition.number
    jobs: set[str] = set()
    plain = not (selection.types or selection.job or selection.project)
    async for stream, entry_id, fields in history.merged(
        selection.streams, selection.after, selection.until
    ):
        entry = CODEC.entry(stream, entry_id, fields)
        for message in entry.messages:
            event = message.event
            wanted = not selection.types or event.event_type in selection.types
            # What project a job is of is told by its submission, chosen or not.
            if not wanted and (selection.project is None or not isinstance(event, JobSubmitted)):
                continue
            job_id = job_of(stream, message, partition)
            if selection.job is not None and job_id != selection.job:
                continue
            if selection.project is not None:
                if project_of(event) == selection.project:
                    jobs.add(job_id or "")
                elif job_id is None or job_id not in jobs:
                    continue
            if wanted:
                yield Recorded(stream, entry_id, message.index, fields, message, job_id)
        if plain:
            for fault in entry.faults:
                yield Recorded(stream, entry_id, fault.index, fields, None, None, fault.reason)


def job_of(stream: str, message: Message, partition: int) -> str | None:
    """The id of the job that an event is about, if it is about one."""
    event = message.event
    if isinstance(event, JobSubmitted):
        return submitted_id(message, partition, urgent=stream == "jobs.urgent")
    spec = getattr(event, "spec", None)
    found: str | None = getattr(event if spec is None else spec, "job_id", None)
    return found


def project_of(event: Any) -> str | None:
    """The project that an event names, if it names one."""
    spec = getattr(event, "spec", None)
    found: str | None = getattr(event if spec is None else spec, "project", None)
    return found
