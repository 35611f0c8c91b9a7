"""From accepted jobs to the transactions that make them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from carbon_orchestrator import record
from carbon_orchestrator.events import JobSubmitted, Spec
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Transaction

SOURCE = "gateway"
#: As many events as the server would put into one entry by itself (streams/lua/commit.lua).
_MOST_EVENTS, _MOST_BYTES = 100, 65536
_encode = msgspec.json.Encoder().encode


class New(NamedTuple):
    """An accepted job. `place`: in what was asked for; `guarded`: whether there may be one of its
    id already; `digest`: of its submission, where that is to be known again."""

    place: int
    submitted: JobSubmitted
    spec: Spec
    guarded: bool = False
    digest: str | None = None


class Made(NamedTuple):
    """A transaction, and the jobs that it makes: all of them or none."""

    transaction: Transaction
    jobs: Sequence[New]


def making(topology: Topology, jobs: Sequence[New], key_id: str | None) -> Iterator[Made]:
    """Transactions that write the jobs' records, count them as those of the API key and emit their
    events. A job that there may be already has one of its own; the others share."""
    for job in jobs:
        if job.guarded:
            transaction, job_id = Transaction(), job.spec.job_id
            record.create(transaction, topology, job_id, job.spec.submitted_at, _fields(job))
            transaction.emit(topology.jobs_lane(job.spec.urgency), _event(job))
            _hold(transaction, topology, [job], key_id)
            yield Made(transaction, [job])
    for urgent in (True, False):
        group: list[New] = []
        events: list[bytes] = []
        size = 0
        for job in jobs:
            if job.guarded or (job.spec.urgency == "urgent") != urgent:
                continue
            event = _event(job)
            if group and (len(group) >= _MOST_EVENTS or size + len(event) > _MOST_BYTES):
                yield _together(topology, group, events, key_id)
                group, events, size = [], [], 0
            group.append(job)
            events.append(event)
            size += len(event)
        if group:
            yield _together(topology, group, events, key_id)


def _together(topology: Topology, jobs: list[New], events: list[bytes], key_id: str | None) -> Made:
    """Jobs of one lane whose ids are fresh."""
    transaction, stream = Transaction(), topology.jobs_lane(jobs[0].spec.urgency)
    # First, so that a record without its event, which would wait for ever, cannot come about.
    if len(jobs) == 1:
        transaction.emit(stream, events[0])
    else:
        transaction.add_entry(stream, (b"batch", b"[" + b",".join(events) + b"]"))
    record.create_all(
        transaction,
        topology,
        [(job.spec.job_id, job.spec.submitted_at, _fields(job)) for job in jobs],
    )
    _hold(transaction, topology, jobs, key_id)
    return Made(transaction, jobs)


def _hold(
    transaction: Transaction, topology: Topology, jobs: Sequence[New], key_id: str | None
) -> None:
    if key_id is not None:
        places = [(job.spec.submitted_at, job.spec.job_id) for job in jobs]
        transaction.put_all(topology.held(key_id), places)


def _fields(job: New) -> dict[str, str | bytes | int]:
    fields: dict[str, str | bytes | int] = {"spec": _encode(job.spec)}
    if job.digest is not None:
        fields["digest"] = job.digest
    return fields


def _event(job: New) -> bytes:
    spec = job.spec
    event = msgspec.structs.replace(
        job.submitted, job_id=spec.job_id, submitted_at=spec.submitted_at
    )
    return envelope(event, SOURCE, spec.traceparent)
