"""How a job goes on after an attempt that did not end it. Pure."""

from __future__ import annotations

from carbon_orchestrator.router.waiting import Plan

_LONGEST_SECONDS = 60.0


def interrupted(at: int) -> Plan:
    """How an attempt goes on whose worker was stopped."""
    return Plan(at, at, "its worker was stopped; it runs again elsewhere")


def retry_delay(first: float, failures: int) -> float:
    """Wall seconds from the end of the attempt that failed as the so-manieth to the next; `first`:
    after the first."""
    return min(first * 2.0 ** (failures - 1), _LONGEST_SECONDS)


def retried(at: int, start: int, error: str | None, delay: float) -> Plan:
    """How a job goes on after an attempt that failed at `at`, grid ms."""
    reason = f"attempt failed ({error}); tried again after {delay:g} s"
    return Plan(at, start, reason, not_before=start)
