"""Events to entry fields and back, for one closed set of event types."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import msgspec

from streams.errors import DecodeError
from streams.event import Entry, Fault, Message

_encode = msgspec.json.Encoder().encode


class EventType(Protocol):
    """A msgspec Struct class that names its CloudEvents `type`."""

    event_type: ClassVar[str]


class _Envelope(msgspec.Struct):
    """An event inside a `batch` array."""

    type: str
    data: msgspec.Raw
    id: str | None = None
    source: str | None = None
    traceparent: str | None = None


_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_envelope_decoder = msgspec.json.Decoder(_Envelope)


class Codec:
    """Encodes and decodes the given event types; unknown fields are ignored on reading."""

    def __init__(self, types: Iterable[type[Any]]) -> None:
        self._decoders = {each.event_type: msgspec.json.Decoder(each) for each in types}

    @property
    def event_types(self) -> tuple[str, ...]:
        return tuple(self._decoders)

    def event(self, event_type: str, data: bytes | msgspec.Raw) -> Any:
        """The Struct in `data`. Raises DecodeError."""
        decoder = self._decoders.get(event_type)
        if decoder is None:
            raise DecodeError(
                f"unknown event type {event_type!r}; known are {', '.join(self._decoders)}"
            )
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DecodeError(f"{event_type}: {error}") from None

    def entry(
        self, stream: str, entry_id: str, fields: tuple[bytes, ...], deliveries: int = 1
    ) -> Entry:
        """Decode one entry. Never raises: what cannot be decoded is among the faults."""
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        batch = named.get(b"batch")
        if batch is None:
            messages, faults = self._single(entry_id, named, fields)
        else:
            messages, faults = self._batch(entry_id, batch, fields)
        return Entry(stream, entry_id, messages, faults, fields, deliveries)

    def _single(
        self, entry_id: str, named: dict[bytes, bytes], fields: tuple[bytes, ...]
    ) -> tuple[tuple[Message, ...], tuple[Fault, ...]]:
        if not fields:
            return (), (Fault(0, "the entry was trimmed while it was pending", fields),)
        event_type, data = named.get(b"type"), named.get(b"data")
        if event_type is None or data is None:
            missing = "type" if event_type is None else "data"
            return (), (Fault(0, f"the entry has no field {missing!r}", fields),)
        try:
            event = self.event(event_type.decode(), data)
            return (
                Message(
                    entry_id,
                    0,
                    event,
                    _text(named.get(b"id")),
                    _text(named.get(b"source")),
                    _text(named.get(b"traceparent")),
                ),
            ), ()
        except UnicodeDecodeError:
            return (), (Fault(0, "an attribute is not UTF-8 text", fields),)
        except DecodeError as error:
            return (), (Fault(0, str(error), fields),)

    def _batch(
        self, entry_id: str, batch: bytes, fields: tuple[bytes, ...]
    ) -> tuple[tuple[Message, ...], tuple[Fault, ...]]:
        try:
            raws = _batch_decoder.decode(batch)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            return (), (Fault(0, f"batch: {error}", fields),)
        messages: list[Message] = []
        faults: list[Fault] = []
        for index, raw in enumerate(raws):
            try:
                each = _envelope_decoder.decode(raw)
                event = self.event(each.type, each.data)
            except (msgspec.DecodeError, DecodeError, RecursionError, UnicodeDecodeError) as error:
                original = (b"batch", b"[" + bytes(raw) + b"]")
                faults.append(Fault(index, f"batch item {index}: {error}", original))
            else:
                messages.append(
                    Message(entry_id, index, event, each.id, each.source, each.traceparent)
                )
        return tuple(messages), tuple(faults)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def timestamp() -> str:
    """Now, RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1024)
def _head(event_type: str, source: str) -> bytes:
    return f'{{"type":"{event_type}","source":{_encode(source).decode()},'.encode()


def envelope(event: Any, source: str, traceparent: str | None = None) -> bytes:
    """JSON of an event with its attributes, as it stands in a `batch` array."""
    return enveloped(event.event_type, _encode(event), source, traceparent)


def enveloped(event_type: str, data: bytes, source: str, traceparent: str | None = None) -> bytes:
    """The same of an event that is JSON already."""
    head = _head(event_type, source)
    if traceparent is not None:
        head += b'"traceparent":' + _encode(traceparent) + b","
    return head + b'"data":' + data + b"}"


def entry_fields(event: Any, source: str, traceparent: str | None = None) -> list[str | bytes]:
    """Names and values of an entry that carries this one event."""
    fields: list[str | bytes] = [
        "type",
        event.event_type,
        "source",
        source,
        "data",
        _encode(event),
    ]
    if traceparent is not None:
        fields += ["traceparent", traceparent]
    return fields
