"""Entries of a stream and the events in them.

An entry carries one event (CloudEvents attributes as fields, `data` as JSON) or a batch of
them (field `batch`, a JSON array). An event's identity is its entry's id and its index; its
time, unless it says otherwise, is the millisecond in the id.
"""

from __future__ import annotations

from typing import Any

import msgspec


def entry_order(entry_id: str) -> tuple[int, int]:
    """An entry's id as numbers that sort as the server does: milliseconds, then sequence."""
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)


class Message(msgspec.Struct, frozen=True):
    """One event as read: its decoded `data` and the attributes that came with it."""

    entry_id: str
    index: int
    event: Any  # a Struct of the codec that read it
    id: str | None = None  # the publisher's CloudEvents id
    source: str | None = None
    traceparent: str | None = None

    @property
    def at_ms(self) -> int:
        """When the entry was added, wall-clock ms by the server."""
        return int(self.entry_id.partition("-")[0])


class Fault(msgspec.Struct, frozen=True):
    """An event that could not be decoded: why, and the fields as they came."""

    index: int
    reason: str
    fields: tuple[bytes, ...]  # alternating names and values


class Entry(msgspec.Struct, frozen=True):
    """One stream entry. `deliveries` is known only for reclaimed entries (else 1)."""

    stream: str
    id: str
    messages: tuple[Message, ...]
    faults: tuple[Fault, ...] = ()
    fields: tuple[bytes, ...] = ()  # as they came, alternating names and values
    deliveries: int = 1
