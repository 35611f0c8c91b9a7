"""An event in half a line, for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from carbon_orchestrator import events
from carbon_orchestrator.cli.job_text import pool_name, why
from carbon_orchestrator.cli.quantities import duration, energy, mass, moment
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.topology import CODEC
from streams.errors import DecodeError
from streams.seals import SegmentSealed

if TYPE_CHECKING:
    from carbon_orchestrator.client.live import Event


def line(event: Event) -> tuple[str, str, str]:
    """A live event: when, its type, and of which job it says what."""
    at = "" if event.at is None else f"{event.at:%Y-%m-%d %H:%M:%S}"
    try:
        said = gist(CODEC.event(event.type, msgspec.json.encode(event.data)))
    except DecodeError:  # what is no event of the streams: a gap, a dead letter
        said = "; ".join(f"{name}: {value}" for name, value in event.data.items() if value)
    return at, event.type, " ".join(each for each in (event.job, said) if each)


def gist(event: Any) -> str:
    """What an event says, without its type and job."""
    match event:
        case events.JobSubmitted():
            due = "" if event.deadline is None else f", due {event.deadline}"
            return f"{event.type}, {event.urgency}{due}"
        case events.IntensityObserved():
            made_up = ", SIMULATED" if event.simulated else ""
            return f"{event.zone} {event.intensity:.0f} gCO2e/kWh, {event.source}{made_up}"
        case events.JobDispatched():
            where = pool_name(event.decision.pool, event.decision.zone)
            return f"attempt {event.attempt} on {where}: {why(event.decision.reason)}"
        case events.JobDeferred() | events.SuspendRequested():
            return f"to {_time(event.decision.start)}: {why(event.decision.reason)}"
        case events.JobStarted():
            return f"attempt {event.attempt} on {pool_name(event.pool)}, {event.worker}"
        case events.Finish():
            return _finish(event)
        case events.EmissionsRecorded():
            amounts = f"{energy(event.energy_mj)}, {mass(event.emissions_ug)} CO2e"
            return f"attempt {event.attempt} on {pool_name(event.pool, event.zone)}: {amounts}"
        case events.EmissionsSettled():
            changes = f"{len(event.restated)} totals restated, {len(event.bounded)} bounded"
            return f"{changes}, to {_time(event.until)}"
        case events.JobsReviewed():
            return f"at intensity {event.intensity_id}"
        case events.RoleStarted():
            return f"{event.name}, version {event.version}"
        case events.OperatorActed():
            return f"{event.who}: {event.action} {event.subject}"
        case SegmentSealed():
            return f"{event.number}: {event.entries} entries of {event.stream} to {event.last}"
    return str(getattr(event, "reason", ""))


def _finish(event: events.Finish) -> str:
    text = f"attempt {event.attempt} on {pool_name(event.pool)}, ran {duration(event.run_ms)}"
    if isinstance(event, events.JobFailed):
        ending = "for good" if event.final else "to be retried"
        return f"{text}: {event.outcome} {ending}: {event.error}"
    if isinstance(event, events.JobSuspended):
        return f"{text}: resumes {_time(event.resume_at)}: {event.reason}"
    return text


def _time(ms: int) -> str:
    try:
        return moment(rfc3339(ms))
    except (ValueError, OverflowError, OSError):
        return str(ms)
