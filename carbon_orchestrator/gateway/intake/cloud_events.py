"""CloudEvents 1.0 over HTTP, in its three modes: binary, structured and batch. Pure.

The HTTP binding and the JSON format of the specification, https://cloudevents.io: in binary mode
attributes are headers `ce-NAME`, percent-encoded, and the body is the data; else the event is one
JSON object, or several are an array.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, UnsetType

from carbon_orchestrator.gateway.intake.outcome import Refused, malformed, wrong
from carbon_orchestrator.gateway.intake.strict import Malformed, names

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
#: How long an attribute that we keep or derive something from may be, characters.
LONGEST = 1024
_REQUIRED = ("specversion", "id", "source", "type")
#: What no string of CloudEvents may have: controls, surrogates, noncharacters.
_NO_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
_JSON = re.compile(r"[\w.+-]+/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE)


class CloudEvent(NamedTuple):
    """An event of any type. `data`: JSON; `traceparent`: of the distributed tracing extension, as
    it was sent."""

    type: str
    source: str
    id: str
    data: bytes
    traceparent: str | None = None


class _Object(msgspec.Struct):
    """The JSON format. An attribute that is null counts as absent; others are extensions."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw | UnsetType = UNSET
    data_base64: str | UnsetType | None = UNSET


_object = msgspec.json.Decoder(_Object)
_array = msgspec.json.Decoder(list[msgspec.Raw])


def binary(headers: Mapping[str, str], content_type: str, body: bytes) -> CloudEvent | Refused:
    """The event whose attributes are in the headers. `headers`: names in any case, as aiohttp has
    them; `content_type`: of the data, "" for none."""
    found: dict[str, str | None] = {}
    for name in (*_REQUIRED, "traceparent"):
        value = headers.get(f"ce-{name}")
        try:
            found[name] = None if value is None else unquote(value, errors="strict")
        except UnicodeDecodeError:
            return _wrong(f"the header ce-{name} is not percent-encoded UTF-8", name)
    return _event(found, content_type or None, body)


def structured(body: bytes) -> CloudEvent | Refused:
    """The event that is one JSON object."""
    try:
        event = _object.decode(body)
        names(body)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        return _wrong(text, path.strip("`.")) if path else malformed(f"no CloudEvent: {text}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return malformed(f"this is not JSON: {error}")
    except Malformed as error:
        return malformed(str(error))
    data: bytes | None = None if event.data is UNSET else bytes(event.data)
    if event.data_base64 is not UNSET and event.data_base64 is not None:
        if data is not None:
            return _wrong("data and data_base64 exclude each other", "data_base64")
        try:
            data = base64.b64decode(event.data_base64, validate=True)
        except (binascii.Error, ValueError):
            return _wrong("data_base64 is not Base64", "data_base64")
    found = {name: getattr(event, name) for name in (*_REQUIRED, "traceparent")}
    return _event(found, event.datacontenttype, data)


def batch(body: bytes, most: int) -> list[bytes] | Refused:
    """Each event of a batch, for `structured`; `most`: as many as there may be."""
    try:
        events = _array.decode(body)
    except msgspec.ValidationError:
        return malformed("a batch is a JSON array of events")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return malformed(f"this is not JSON: {error}")
    if len(events) > most:
        detail = f"{len(events)} events; send {most} at most, the others in another request"
        return Refused(status=413, kind="too-many-events", detail=detail)
    return [bytes(each) for each in events]


def _event(
    found: Mapping[str, str | None], content_type: str | None, data: bytes | None
) -> CloudEvent | Refused:
    for name in _REQUIRED:
        value = found[name]
        if not value:
            return _wrong(f"the attribute {name} is missing", name)
        if len(value) > LONGEST:
            return _wrong(f"the attribute {name} is over {LONGEST} characters", name)
        if _NO_TEXT.search(value):
            return _wrong(f"the attribute {name} has control characters", name)
    if found["specversion"] != "1.0":
        return _wrong("events of CloudEvents 1.0 are taken, and no others", "specversion")
    if content_type is not None and not _JSON.fullmatch(content_type):
        return _wrong("the data must be JSON, such as application/json", "datacontenttype")
    if data is None:
        return _wrong("the event has no data", "data")
    return CloudEvent(
        type=found["type"] or "",
        source=found["source"] or "",
        id=found["id"] or "",
        data=data,
        traceparent=found["traceparent"],
    )


def _wrong(detail: str, attribute: str) -> Refused:
    return wrong("invalid-event", detail, attribute)
