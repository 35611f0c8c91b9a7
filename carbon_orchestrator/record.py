"""The record of a job, a hash, and how a commit changes it.

Fields: `state`; `attempt` (the current or last one, which is also the fence); `dispatch` (the
attempt that was dispatched last, from which takeovers count on); `failures` (attempts that
failed); `spec` (JSON of Spec); `digest` of the submission if it had an idempotency key; `plan`
(JSON, the latest deferral) and `replans`; `pool`; `cancel` (the reason, once asked for);
`suspend` (JSON of the plan to go on by, once a running job is asked to pause); `segments`,
`ran_fast_ms` and `ran_eco_ms` (of an interruptible job: how many attempts left a checkpoint, and
what they ran on each pool, wall ms); `reason` (of a rejection or cancellation); `N.dispatched`,
`N.started`, `N.finished` (JSON) per attempt; `energy_mj`, `emissions_ug`, `baseline_ug`,
`unpriced_mj`, `embodied_ug`, the sums over all attempts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbon_orchestrator.lifecycle import TERMINAL, State, allowed
from carbon_orchestrator.topology import Topology
from streams.commit import Transaction

Fields = Mapping[str, str | bytes | int]


def create(
    transaction: Transaction,
    topology: Topology,
    job_id: str,
    submitted_at: int,
    fields: Fields,
    *,
    fresh: bool = False,
) -> None:
    """Guard that there is no such record, unless the id is fresh, and write it, "submitted"."""
    if not fresh:
        transaction.require_absent(topology.record(job_id))
    _enter(transaction, topology, job_id, "submitted", submitted_at, fields, 0, None)


def create_all(
    transaction: Transaction, topology: Topology, jobs: Sequence[tuple[str, int, bytes]]
) -> None:
    """As `create`, for jobs whose ids are fresh, so that nothing needs to be guarded; of each its
    id, `submitted_at` and `spec`."""
    records = [(topology.record(job_id), spec) for job_id, _, spec in jobs]
    transaction.set_all({"state": "submitted"}, "spec", records)
    places = [(submitted_at, job_id) for job_id, submitted_at, _ in jobs]
    transaction.put_all(topology.index("submitted"), places)


def admit(
    transaction: Transaction,
    topology: Topology,
    job_id: str,
    new: State,
    submitted_at: int,
    fields: Fields,
    expire_s: int,
    wake: int | None = None,
) -> None:
    """The first decision about a job: the gateway made its record ("submitted"), or, for a
    job published straight to the stream, nobody did."""
    transaction.require_field(topology.record(job_id), "state", "submitted", "")
    transaction.drop(topology.index("submitted"), job_id)
    _enter(transaction, topology, job_id, new, submitted_at, fields, expire_s, wake)


def move(
    transaction: Transaction,
    topology: Topology,
    job_id: str,
    old: State,
    new: State,
    submitted_at: int | None,
    fields: Fields,
    expire_s: int,
    wake: int | None = None,
    only_if: Mapping[str, str] | None = None,
) -> None:
    """Guard that the job is in `old`, and its fields as in `only_if`; write its change to `new`.

    `submitted_at` (grid ms) orders the job in the index of its new state; None: as before. A job
    goes to "deferred" with a `wake` (grid ms), and to a terminal state to expire after `expire_s`.
    Raises ValueError for a change that the lifecycle does not know.
    """
    if not allowed(old, new):
        raise ValueError(f"a job cannot go from {old} to {new}")
    transaction.require_fields(topology.record(job_id), {"state": old, **(only_if or {})})
    if new != old:
        if submitted_at is None:
            transaction.shift(topology.index(old), topology.index(new), job_id)
        else:
            transaction.drop(topology.index(old), job_id)
        if old == "deferred":
            transaction.drop(topology.wake, job_id)
    _enter(transaction, topology, job_id, new, submitted_at, fields, expire_s, wake)


def _enter(
    transaction: Transaction,
    topology: Topology,
    job_id: str,
    state: State,
    submitted_at: int | None,
    fields: Fields,
    expire_s: int,
    wake: int | None,
) -> None:
    if (wake is not None) != (state == "deferred"):
        raise ValueError("a deferred job, and no other, has a wake-up")
    record = topology.record(job_id)
    transaction.set_fields(record, {"state": state, **fields})
    if submitted_at is not None:
        transaction.put(topology.index(state), submitted_at, job_id)
    if wake is not None:
        transaction.put(topology.wake, wake, job_id)
    if state in TERMINAL:
        transaction.write("EXPIRE", record, expire_s)
