"""What goes over the streams: every channel with its events, who writes them and who reads them."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec

from carbon_orchestrator import events
from carbon_orchestrator.events import EVENTS
from streams.seals import SegmentSealed

OUTSIDE = "outside"


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A stream, or streams of one kind. `address`: its name in a partition, with parameters in
    braces; `writers` and `readers`: roles, and `OUTSIDE` for other services. A reader that
    belongs to a consumer group is in `group`; the others follow the stream each on its own."""

    name: str
    address: str
    summary: str
    events: tuple[type[Any], ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...] = ()
    group: str | None = None


CHANNELS = (
    Channel(
        name="jobs",
        address="jobs",
        summary="Jobs that somebody wants run, and cancellations.",
        events=(events.JobSubmitted, events.CancelRequested),
        writers=("gateway", OUTSIDE),
        readers=("router",),
        group="router",
    ),
    Channel(
        name="jobsUrgent",
        address="jobs.urgent",
        summary="The same, read first.",
        events=(events.JobSubmitted, events.CancelRequested),
        writers=("gateway", OUTSIDE),
        readers=("router",),
        group="router",
    ),
    Channel(
        name="intensity",
        address="intensity",
        summary="The carbon intensity of each zone, and what is expected next.",
        events=(events.IntensityObserved,),
        writers=("signal", OUTSIDE),
        readers=("router", "worker", "accounting", "scaler", "gateway"),
        group="router",
    ),
    Channel(
        name="deferrals",
        address="deferrals",
        summary="Decisions of the router other than to dispatch.",
        events=(
            events.JobDeferred,
            events.SuspendRequested,
            events.StopRequested,
            events.JobRejected,
            events.JobCancelled,
        ),
        writers=("router", "worker"),
    ),
    Channel(
        name="reviews",
        address="reviews",
        summary="When the router looked at all waiting and running jobs.",
        events=(events.JobsReviewed,),
        writers=("router",),
    ),
    Channel(
        name="dispatch",
        address="dispatch.{site}{lane}",
        summary="Attempts handed to a pool, each with the whole decision.",
        events=(events.JobDispatched,),
        writers=("router",),
        readers=("worker",),
        group="worker",
    ),
    Channel(
        name="completions",
        address="completions",
        summary="How attempts began and ended.",
        events=(
            events.JobStarted,
            events.JobCompleted,
            events.JobFailed,
            events.JobSuspended,
        ),
        writers=("worker",),
        readers=("accounting",),
        group="accounting",
    ),
    Channel(
        name="emissions",
        address="emissions",
        summary="What attempts burnt, and what later intensities change about it.",
        events=(events.EmissionsRecorded, events.EmissionsSettled),
        writers=("worker", "accounting"),
        readers=("accounting",),
        group="accounting",
    ),
    Channel(
        name="operations",
        address="operations",
        summary="Roles that started, with their configuration, and what was done by hand.",
        events=(events.RoleStarted, events.OperatorActed),
        writers=("gateway", "signal", "router", "worker", "accounting", "scaler", "operator"),
    ),
    Channel(
        name="scaling",
        address="scaling",
        summary="Sizes of pools, each with what it was decided from.",
        events=(events.PoolScaled,),
        writers=("scaler",),
    ),
    Channel(
        name="seals",
        address="seals",
        summary="The chain of hashes over all entries of all streams.",
        events=(SegmentSealed,),
        writers=("accounting",),
    ),
)
#: What the parameters of addresses mean.
PARAMETERS: dict[str, dict[str, Any]] = {
    "namespace": {
        "description": "Of the deployment.",
        "default": "carbon",
    },
    "partition": {
        "description": "The partition's number, in braces: all its keys are in one hash slot.",
        "default": "{0}",
        "examples": ["{0}", "{1}"],
    },
    "site": {
        "description": "A pool of the home zone, or POOL@ZONE of another.",
        "examples": ["fast", "eco", "eco@FR"],
    },
    "lane": {
        "description": "Lanes are read in this order: urgent, due (may wait no longer), the rest.",
        "enum": [".urgent", ".due", ""],
        "default": "",
    },
}


def _with(event: type[Any], field: str, *told: Any) -> type[Any]:
    """The event, one field's type, and its default if it has one, put as they are to be told."""
    return msgspec.defstruct(
        event.__name__,
        [(field, *told)],
        bases=(event,),
        namespace={"__doc__": event.__doc__},
        frozen=True,
        kw_only=True,
    )


#: Payloads are kept as the bytes that came; what they are to be is an object.
_OBJECT: tuple[Any, ...] = dict[str, Any], msgspec.field(default_factory=dict)
_TOLD: dict[type[Any], type[Any]] = {
    events.JobSubmitted: _with(events.JobSubmitted, "payload", *_OBJECT),
    events.JobDispatched: _with(
        events.JobDispatched, "spec", _with(events.Spec, "payload", *_OBJECT)
    ),
}


def schemas(template: str) -> dict[str, dict[str, Any]]:
    """A JSON Schema (2020-12) of each event and of what they consist of, by name; `template`: of
    references between them, as in "#/$defs/{name}"."""
    found: dict[str, dict[str, Any]]
    _, found = msgspec.json.schema_components(
        [_TOLD.get(each, each) for each in EVENTS], ref_template=template
    )
    for each in found.values():
        if "description" in each:
            each["description"] = cleandoc(each["description"])
    return dict(sorted(found.items()))


def document() -> dict[str, Any]:
    """All of them, and which is of which event, by its CloudEvents type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of carbon-orchestrator",
        "description": "The data of each event, by its type. Readers ignore fields that they do"
        " not know; within a version of an event only optional fields are added.",
        "events": {
            each.event_type: {"$ref": f"#/$defs/{each.__name__}"}
            for each in sorted(EVENTS, key=lambda event: event.event_type)
        },
        "$defs": schemas("#/$defs/{name}"),
    }
