"""From accepted jobs to the transactions that make them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from carbon_orchestrator import record
from carbon_orchestrator.events import JobSubmitted, Spec, Urgency
from carbon_orchestrator.topology import Topology
from streams.codec import enveloped
from streams.commit import Transaction

SOURCE = "gateway"
#: As many events as the server would put into one entry by itself (streams/lua/commit.lua).
_MOST_EVENTS, _MOST_BYTES = 100, 65536
_encode = msgspec.json.Encoder().encode


class New(msgspec.Struct, frozen=True):
    """An accepted job. `place`: in what was asked for; `data`: as it was submitted, JSON without
    an id; `guarded`: whether there may be one of its id already; `digest`: of its submission,
    where that is to be known again; `key_id`: of the API key that it came with."""

    place: int
    data: bytes
    spec: Spec
    guarded: bool = False
    digest: str | None = None
    key_id: str | None = None


class Made(NamedTuple):
    """A transaction, and the jobs that it makes: all of them or none."""

    transaction: Transaction
    jobs: Sequence[New]


def making(topology: Topology, jobs: Sequence[New]) -> Iterator[Made]:
    """Transactions that write the jobs' records, count them as those of their API keys and emit
    their events. A job that there may be already has one of its own; the others share."""
    if len(jobs) == 1:
        yield _alone(topology, jobs[0])
        return
    groups: dict[tuple[Urgency, str | None], list[New]] = {}
    for job in jobs:
        if job.guarded:
            yield _alone(topology, job)
        else:
            kind = job.spec.urgency, job.key_id
            groups.setdefault(kind, []).append(job)
    for group in groups.values():
        for first in range(0, len(group), _MOST_EVENTS):
            some = group[first : first + _MOST_EVENTS]
            yield from _fitting(topology, some, [_event(job) for job in some])


def _fitting(topology: Topology, jobs: Sequence[New], events: Sequence[bytes]) -> Iterator[Made]:
    """Of so few jobs of one urgency and API key, in as many entries as they need."""
    first = size = 0
    for place, event in enumerate(events):
        if place > first and size + len(event) > _MOST_BYTES:
            yield _together(topology, jobs[first:place], events[first:place])
            first, size = place, 0
        size += len(event)
    yield _together(topology, jobs[first:], events[first:])


def _alone(topology: Topology, job: New) -> Made:
    transaction, spec = Transaction(), job.spec
    # First, so that a record without its event, which would wait for ever, cannot come about.
    transaction.emit(topology.jobs_lane(spec.urgency), _event(job))
    record.create(
        transaction, topology, spec.job_id, spec.submitted_at, _fields(job), fresh=not job.guarded
    )
    if job.key_id is not None:
        transaction.put(topology.held(job.key_id), spec.submitted_at, spec.job_id)
    return Made(transaction, [job])


def _together(topology: Topology, jobs: Sequence[New], events: Sequence[bytes]) -> Made:
    """Jobs of one lane whose ids are fresh, with their events."""
    transaction, stream = Transaction(), topology.jobs_lane(jobs[0].spec.urgency)
    transaction.add_entry(stream, (b"batch", b"[" + b",".join(events) + b"]"))  # first, as above
    record.create_all(
        transaction,
        topology,
        [(job.spec.job_id, job.spec.submitted_at, _encode(job.spec)) for job in jobs],
    )
    if (key_id := jobs[0].key_id) is not None:
        places = [(job.spec.submitted_at, job.spec.job_id) for job in jobs]
        transaction.put_all(topology.held(key_id), places)
    return Made(transaction, jobs)


def _fields(job: New) -> dict[str, str | bytes | int]:
    fields: dict[str, str | bytes | int] = {"spec": _encode(job.spec)}
    if job.digest is not None:
        fields["digest"] = job.digest
    return fields


def _event(job: New) -> bytes:
    spec = job.spec
    # The two come last in the event, so it need not be made anew to have them.
    data = b'%b,"job_id":"%b","submitted_at":%d}' % (
        job.data[:-1],
        spec.job_id.encode(),
        spec.submitted_at,
    )
    return enveloped(JobSubmitted.event_type, data, SOURCE, spec.traceparent)
