"""The job's state machine: the single truth about which changes are allowed."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal[
    "submitted",  # accepted, not yet seen by a router
    "deferred",  # waits for its planned start, or for the next attempt
    "dispatched",  # handed to a pool, waits for a free slot
    "running",
    "completed",
    "failed",
    "cancelled",
    "rejected",
]
STATES: tuple[State, ...] = get_args(State)

_ARROWS: dict[State, frozenset[State]] = {
    "submitted": frozenset({"deferred", "dispatched", "rejected", "cancelled"}),
    "deferred": frozenset({"deferred", "dispatched", "cancelled"}),
    "dispatched": frozenset({"running", "cancelled", "failed"}),
    # running to running: another worker takes over after the lease
    "running": frozenset({"running", "completed", "failed", "cancelled", "deferred"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "rejected": frozenset(),
}

TERMINAL: frozenset[State] = frozenset(state for state, to in _ARROWS.items() if not to)
WAITING: tuple[State, ...] = ("submitted", "deferred", "dispatched")


def allowed(old: State, new: State) -> bool:
    """Whether a job may go from `old` to `new`."""
    return new in _ARROWS[old]
