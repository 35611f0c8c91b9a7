"""Events as they are told over HTTP: where and when each was, what it is about, and its data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec

from carbon_orchestrator.events import EVENTS, Decision
from carbon_orchestrator.gateway.live import server_sent
from carbon_orchestrator.gateway.live.position import WHOLE, Place
from carbon_orchestrator.redaction import text as redacted
from carbon_orchestrator.replaying import job_of, project_of
from carbon_orchestrator.topology import CODEC
from streams.dead_letters import DEAD_LETTERS
from streams.event import entry_order
from streams.lines import RawEntry, rfc3339
from streams.seals import SegmentSealed

#: The type of what is told of a dead letter.
DEAD_LETTER = "dead_letter"
#: All types that are told; seals are of the archive's making, not of the domain's.
TYPES = (*(each.event_type for each in EVENTS if each is not SegmentSealed), DEAD_LETTER)

_encode = msgspec.json.Encoder().encode
_TOLD_OF_LETTERS = (b"reason", b"stream", b"entry", b"group", b"deliveries")


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One event. `stream`: by its name; `place`: where it is; `after`: how far one has read who
    has read it; `project`: only if the event names it."""

    stream: str
    place: Place
    after: Place
    type: str
    source: str | None
    job: str | None
    project: str | None
    event: Any

    @property
    def id(self) -> str:
        ms, sequence, index = self.place
        return f"{ms}-{sequence}/{index}"

    @property
    def at(self) -> str:
        """Wall time, RFC 3339."""
        return rfc3339(str(self.place[0]))

    @cached_property
    def frame(self) -> bytes:
        """As a server-sent event."""
        return self._frame(self.data())

    @cached_property
    def frame_of_project(self) -> bytes:
        """Likewise, for those who may not know of other projects."""
        return self._frame(self.data(of_project=True))

    def data(self, *, of_project: bool = False) -> str:
        """The event as JSON; `of_project`: without what a decision says about other projects."""
        event = _for_project(self.event) if of_project else self.event
        # Payloads are copied as they came, and who publishes to a stream may send anything.
        return _encode(event).decode("utf-8", "replace")

    def _frame(self, data: str) -> bytes:
        head = {
            "stream": self.stream,
            "id": self.id,
            "at": self.at,
            "source": self.source,
            "job": self.job,
        }
        return server_sent.event(self.type, f'{_encode(head).decode()[:-1]},"data":{data}}}')


def occurrences(stream: str, entry: RawEntry, partition: int) -> Iterator[Occurrence]:
    """The events of an entry, in order; what cannot be decoded is told as a dead letter later."""
    entry_id, fields = entry
    ms, sequence = entry_order(entry_id)
    if stream == DEAD_LETTERS:
        yield Occurrence(
            stream=stream,
            place=(ms, sequence, 0),
            after=(ms, sequence, WHOLE),
            type=DEAD_LETTER,
            source=None,
            job=None,
            project=None,
            event=_letter(fields),
        )
        return
    messages = CODEC.entry(stream, entry_id, fields).messages
    for message in messages:
        yield Occurrence(
            stream=stream,
            place=(ms, sequence, message.index),
            after=(ms, sequence, WHOLE if message is messages[-1] else message.index + 1),
            type=message.event.event_type,
            source=message.source,
            job=job_of(stream, message, partition),
            project=project_of(message.event),
            event=message.event,
        )


def _letter(fields: tuple[bytes, ...]) -> dict[str, str]:
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    return {
        name.decode(): redacted(named[name].decode("utf-8", "replace"))
        for name in _TOLD_OF_LETTERS
        if name in named
    }


def _for_project(event: Any) -> Any:
    decision = getattr(event, "decision", None)
    if not isinstance(decision, Decision):
        return event
    kept = msgspec.structs.replace(
        decision, params=msgspec.Raw(b"{}"), considered=[], ended_id=None
    )
    return msgspec.structs.replace(event, decision=kept)
