"""Stream entries that nobody should send: valid ones of every event type, built from the types
themselves, and then broken in every way that comes to mind. The same seed, the same entries.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from carbon_orchestrator.events import EVENTS, JobSubmitted
from streams.codec import envelope

Fields = tuple[bytes, ...]

_TEXTS = ("", "a", "default", "analytics", "urgent", "ü", "\x00", "a|b|c", "-0", "1e999", "x" * 300)
_NUMBERS = (0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 1_700_000_000_000)
_FLOATS = (0.0, -0.0, 1.5, -1.0, 1e-300, 1e300, 123.456)
#: What breaks parsers: put anywhere.
_TOKENS = (
    b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"0" * 50,
    b"9" * 400, b"9" * 5000, b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xc3\x28", b"\xef\xbb\xbf",
    b"[" * 2000, b'{"a":' * 1200, b"{}", b"[]", b'""', b",", b":", b"\x00", b"\\", b"}", b"]",
    b'"type":"job.submitted",', b'"deadline":"0001-01-01T00:00:00+23:59",',
    b'"9999-12-31T23:59:59Z"', b'"6h"', b'"PT15M"', b'"deadline":' + b"9" * 400 + b",",
)  # fmt: skip
_NAMES = (b"type", b"data", b"batch", b"id", b"source", b"traceparent", b"time", b"", b"\xff")
_EVENTS = [inspect.type_info(each) for each in EVENTS]
_SUBMITTED = inspect.type_info(JobSubmitted)


class Entries:
    """An endless, repeatable supply of entries."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ways: tuple[Callable[[Fields], Fields], ...] = (
            self._flip,
            self._cut,
            self._insert,
            self._insert,
            self._repeat,
            self._rename,
            self._drop,
            self._double,
            self._odd,
        )

    def __iter__(self) -> Iterator[Fields]:
        while True:
            yield self.entry()

    def entry(self) -> Fields:
        """One entry: valid in one case of eight, else broken once or more often."""
        fields = self.valid()
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            fields = self._random.choice(self._ways)(fields)
        return fields

    def valid(self) -> Fields:
        """An entry with one event, or a batch of some."""
        if self._random.random() < 0.7:
            event = self._event()
            more: Fields = ()
            if self._random.random() < 0.3:
                more = (b"id", b"1", b"source", b"fuzz", b"traceparent", b"00-1-2-3")
            return (b"type", event.event_type.encode(), b"data", msgspec.json.encode(event), *more)
        count = self._random.randrange(5)
        batch = b",".join(envelope(self._event(), "fuzz") for _ in range(count))
        return (b"batch", b"[" + batch + b"]")

    # -- events, from their types ----------------------------------------------------------------

    def _event(self) -> Any:
        # A job that somebody submits is what strangers may write, so it comes up most often.
        if self._random.random() < 0.3:
            return msgspec.structs.replace(self._struct(_SUBMITTED), type="analytics")
        return self._struct(self._random.choice(_EVENTS))

    def _struct(self, info: Any) -> Any:
        return info.cls(
            **{
                field.name: self._value(field.type)
                for field in info.fields
                if field.required or self._random.random() < 0.5
            }
        )

    def _value(self, info: Any) -> Any:
        pick = self._random.choice
        match info:
            case inspect.Metadata():
                return self._value(info.type)
            case inspect.UnionType():
                return self._value(pick(info.types))
            case inspect.LiteralType():
                return pick(info.values)
            case inspect.StrType():
                return pick(_TEXTS)
            case inspect.BoolType():
                return pick((True, False))
            case inspect.IntType():
                return pick(_NUMBERS)
            case inspect.FloatType():
                return pick(_FLOATS)
            case inspect.NoneType():
                return None
            case inspect.RawType():
                return msgspec.Raw(pick((b"{}", b'{"a":[1,2]}', b"[]", b"1")))
            case inspect.ListType():
                return [self._value(info.item_type) for _ in range(self._random.randrange(3))]
            case inspect.VarTupleType():
                return tuple(self._value(info.item_type) for _ in range(self._random.randrange(3)))
            case inspect.TupleType():
                return tuple(map(self._value, info.item_types))
            case inspect.DictType():
                keys = [self._value(info.key_type) for _ in range(self._random.randrange(3))]
                return {key: self._value(info.value_type) for key in keys}
            case inspect.StructType():
                return self._struct(info)
            case _:
                raise TypeError(f"events have a new kind of field, {info}: say here how to make it")

    # -- ways to break an entry ------------------------------------------------------------------

    def _at(self, fields: Fields, change: Callable[[bytes], bytes]) -> Fields:
        """One of the fields, mostly a value, changed."""
        if not fields:
            return fields
        at = self._random.randrange(len(fields)) | (self._random.random() < 0.9)
        at = min(at, len(fields) - 1)
        return (*fields[:at], change(fields[at]), *fields[at + 1 :])

    def _flip(self, fields: Fields) -> Fields:
        def flip(value: bytes) -> bytes:
            if not value:
                return b"\x00"
            at = self._random.randrange(len(value))
            return value[:at] + bytes([self._random.randrange(256)]) + value[at + 1 :]

        return self._at(fields, flip)

    def _cut(self, fields: Fields) -> Fields:
        def cut(value: bytes) -> bytes:
            start, end = sorted(self._random.randrange(len(value) + 1) for _ in range(2))
            return value[:start] + value[end:]

        return self._at(fields, cut)

    def _insert(self, fields: Fields) -> Fields:
        def insert(value: bytes) -> bytes:
            token = self._random.choice(_TOKENS)
            # Where a value stands: there a parser takes it in.
            places = [at + 1 for at, byte in enumerate(value[:400]) if byte in b":[,"]
            at = self._random.choice(places) if places else self._random.randrange(len(value) + 1)
            end = at
            if self._random.random() < 0.7:
                while end < len(value) and value[end] not in b",}]":
                    end += 1
            return value[:at] + token + value[end:]

        return self._at(fields, insert)

    def _repeat(self, fields: Fields) -> Fields:
        return self._at(fields, lambda value: value * self._random.choice((2, 3, 10)))

    def _rename(self, fields: Fields) -> Fields:
        if not fields:
            return fields
        at = self._random.randrange(0, len(fields), 2)
        return (*fields[:at], self._random.choice(_NAMES), *fields[at + 1 :])

    def _drop(self, fields: Fields) -> Fields:
        at = self._random.randrange(0, len(fields) + 1, 2)
        return fields[:at] + fields[at + 2 :]

    def _double(self, fields: Fields) -> Fields:
        return fields + self.valid()

    def _odd(self, fields: Fields) -> Fields:
        return fields[:-1]
