"""Jobs that are made together are what each would be by itself."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.config import Config, complete
from carbon_orchestrator.events import JobSubmitted, Spec
from carbon_orchestrator.gateway.intake.making import New, making
from carbon_orchestrator.gateway.intake.strict import submission
from carbon_orchestrator.submission import accept, is_job_id, new_job_id
from carbon_orchestrator.topology import CODEC, Topology
from streams.commit import MAX_BYTES, Transaction
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
CONFIG = complete(Config())
NOW = 1_800_000_000_000


def commands(transaction: Transaction) -> list[list[bytes]]:
    """The writes, as the script reads them."""
    body = transaction.pack(set())
    guards, writes, steps, _ = struct.unpack_from(">HHHI", body)
    at = 10
    found = []
    for _ in range(2 * guards + writes):
        (count,) = struct.unpack_from(">H", body, at)
        at += 2
        values = []
        for _ in range(count):
            (size,) = struct.unpack_from(">I", body, at)
            values.append(body[at + 4 : at + 4 + size])
            at += 4 + size
        found.append(values)
    assert (steps, at) == (0, len(body))
    return found[2 * guards :]


jobs = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(CONFIG.types))},
    optional={
        "urgency": st.sampled_from(["urgent", "normal", "flexible"]),
        "payload": st.dictionaries(st.text(max_size=3), st.integers() | st.text(), max_size=3),
        "deadline": st.sampled_from(["6h", 90, rfc3339(NOW + 5000)]),
        "labels": st.dictionaries(st.sampled_from(["a", "b"]), st.text(), max_size=2),
        "project": st.sampled_from(["default", "grid"]),
    },
)


@given(st.lists(st.tuples(jobs, st.booleans()), max_size=12), st.none() | st.just("key"))
def test_each_job_has_its_record_event_and_place(
    asked: list[tuple[dict[str, Any], bool]], key_id: str | None
) -> None:
    new = []
    for place, (job, guarded) in enumerate(asked):
        submitted, data, _ = submission(msgspec.json.encode(job), 1 << 16)
        spec = accept(submitted, CONFIG, new_job_id(0), NOW, "00-trace" if guarded else None)
        new.append(New(place, data, spec, guarded, "digest" if guarded else None, key_id))
    made = list(making(TOPOLOGY, new))
    assert sorted(job.place for each in made for job in each.jobs) == list(range(len(new)))
    records: dict[str, dict[bytes, bytes]] = {}
    places: dict[bytes, set[bytes]] = {}
    events: dict[str, tuple[str, JobSubmitted, str | None]] = {}
    for each in made:
        for name, key, *rest in commands(each.transaction):
            if name == b"HSET":
                records[key.decode()] = dict(zip(rest[::2], rest[1::2], strict=True))
            elif name in (b"ZADD", b"PUT"):
                assert set(rest[::2]) == {str(NOW).encode()}
                places.setdefault(key, set()).update(rest[1::2])
            else:
                batch = rest[-1] if name == b"XADD" else b"[" + rest[0] + b"]"
                entry = CODEC.entry(key.decode(), "1-0", (b"batch", batch))
                assert not entry.faults
                for message in entry.messages:
                    told = (key.decode(), message.event, message.traceparent)
                    events[message.event.job_id] = told
    ids = {job.spec.job_id for job in new}
    assert set(events) == ids
    indexes = [TOPOLOGY.index("submitted"), *([TOPOLOGY.held(key_id)] if key_id else [])]
    assert places == ({each.encode(): {i.encode() for i in ids} for each in indexes} if ids else {})
    for job in new:
        spec = job.spec
        fields = {b"state": b"submitted", b"spec": msgspec.json.encode(spec)}
        if job.digest is not None:
            fields[b"digest"] = b"digest"
        assert records[TOPOLOGY.record(spec.job_id)] == fields
        stream, event, traceparent = events[spec.job_id]
        assert stream == TOPOLOGY.jobs_lane(spec.urgency)
        assert traceparent == spec.traceparent
        stamped = {"job_id": spec.job_id, "submitted_at": NOW}
        sent = {**json.loads(job.data), **stamped}
        assert json.loads(msgspec.json.encode(event)) == sent


def test_no_entry_holds_too_many_events_and_no_transaction_is_too_large() -> None:
    large = msgspec.Raw(b'{"x":"' + b"y" * (4 << 20) + b'"}')
    small = msgspec.Raw(b"{}")
    new = []
    for place in range(400):
        payload = large if place % 133 == 0 else small
        job_id = new_job_id(0)
        spec = Spec(job_id=job_id, type="analytics", submitted_at=NOW, payload=payload)
        submitted = JobSubmitted(type="analytics", payload=payload)
        new.append(New(place, msgspec.json.encode(submitted), spec))
    made = list(making(TOPOLOGY, new))
    assert [job.place for each in made for job in each.jobs] == list(range(400))
    for each in made:
        assert len(each.jobs) <= 100
        assert len(each.transaction.pack(set())) < MAX_BYTES


def test_ids_are_ids_and_all_different() -> None:
    ids = [new_job_id(7) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(is_job_id(each, 7) for each in ids)
    assert sorted(each[:10] for each in ids) == [each[:10] for each in ids]
