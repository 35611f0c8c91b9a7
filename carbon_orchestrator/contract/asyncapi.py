"""The AsyncAPI 3 document of the streams, made from the events and the table of channels."""

from __future__ import annotations

from typing import Any

from carbon_orchestrator import __version__
from carbon_orchestrator.contract.wire import CHANNELS, OUTSIDE, PARAMETERS, Channel, schemas
from carbon_orchestrator.events import EVENTS

_SCHEMA = "#/components/schemas/{name}"
_DESCRIPTION = """\
Events are entries of Redis Streams (Redis 7.0, Valkey 7.2, or later). An entry has the attributes
of CloudEvents 1.0 as fields, `type` and `data` (JSON) at least:

    XADD carbon:{0}:jobs * type job.submitted data '{"type":"analytics","urgency":"normal"}'

With `id` and `source` an event that is published twice counts once. An entry may carry several
events of its stream instead, in one field `batch`: a JSON array of objects with the same
attributes. The time of an event is its entry's. Readers ignore fields that they do not know; what
is no event at all goes to the dead letters and holds nothing up.
"""
_EXAMPLES = {
    "job.submitted": {"type": "analytics", "urgency": "flexible", "deadline": "6h"},
    "job.cancel_requested": {"job_id": "01m8h9ap25hwh99dn2c15qpgec-0"},
}


def document() -> dict[str, Any]:
    """The document, as JSON values."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "carbon-orchestrator",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:6390",
                "protocol": "redis",
                "description": "The bundled server that `carbon-orchestrator up` starts.",
            }
        },
        "channels": {each.name: _channel(each) for each in CHANNELS},
        "operations": {
            f"{role}.{action}.{each.name}": _operation(role, action, each)
            for each in CHANNELS
            for action, roles in (("send", each.writers), ("receive", each.readers))
            for role in roles
        },
        "components": {
            "messages": {each.event_type: _message(each) for each in EVENTS},
            "schemas": schemas(_SCHEMA),
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    address = f"{{namespace}}:{{partition}}:{channel.address}"
    shown: dict[str, Any] = {
        "address": address,
        "summary": channel.summary,
        "messages": {
            each.event_type: {"$ref": f"#/components/messages/{each.event_type}"}
            for each in channel.events
        },
        "parameters": {
            name: meaning for name, meaning in PARAMETERS.items() if f"{{{name}}}" in address
        },
    }
    if channel.group is not None:
        shown["description"] = f"The consumer group `{channel.group}` reads it."
    return shown


def _operation(role: str, action: str, channel: Channel) -> dict[str, Any]:
    who = "Other services" if role == OUTSIDE else f"The {role}"
    verb = {"send": "write", "receive": "read"}[action] + ("" if role == OUTSIDE else "s")
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": f"{who} {verb} it.",
        "tags": [{"name": role}],
    }


def _message(event: type[Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": event.event_type,
        "title": event.__name__,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "description": "The entry's fields besides `data`.",
            "required": ["type"],
            "properties": {
                "type": {"const": event.event_type},
                "source": {"type": "string", "description": "who publishes it"},
                "id": {"type": "string", "description": "with `source`: the same event once"},
                "traceparent": {"type": "string", "description": "W3C trace context"},
            },
        },
        "payload": {"$ref": _SCHEMA.format(name=event.__name__)},
    }
    if event.event_type in _EXAMPLES:
        headers = {"type": event.event_type, "source": "/nightly", "id": "2026-11-23"}
        shown["examples"] = [{"headers": headers, "payload": _EXAMPLES[event.event_type]}]
    return shown
