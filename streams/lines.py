"""Entries as lines of JSON and back, byte for byte: the form that the archive is kept in.

One line an event, with the attributes of its envelope beside where and when it was:

    {"stream":"jobs","entry":"1700000000000-0","time":"2023-11-14T22:13:20.000Z","index":0,
     "batch":null,"type":"job.submitted","source":"gateway","data":{...}}

`batch` is how many events share the entry, null for one that has it to itself. What is copied
from the entry is copied as it stands, so the entry can be put together again to the byte. An
entry of which that is not so (no JSON, line feeds, spaces or names of its own) is one line with
`fields`: its names and values in base64.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from streams.errors import StreamsError

#: An entry's id, and its alternating names and values.
RawEntry = tuple[str, tuple[bytes, ...]]

#: Columns of every line; an event with an attribute of such a name is kept as `fields`.
RESERVED = frozenset({"stream", "entry", "time", "index", "batch", "fields"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LAST_MS = 253_402_300_799_999  # of the year 9999
_START = re.compile(rb'"index":0,"batch":(?:([1-9][0-9]*)|null),')
_BREAKS = (b"\n", b"\r")

_encode = msgspec.json.encode
_items = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_undecodable = (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError)


class LineError(StreamsError):
    """A line is not as it was written."""


def rfc3339(entry_id: str) -> str:
    """The time in an entry's id: RFC 3339, UTC, milliseconds; at most the end of 9999."""
    seconds, ms = divmod(min(int(entry_id.partition("-")[0]), _LAST_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"


def lines_of(stream: str, entry_id: str, fields: tuple[bytes, ...]) -> list[bytes]:
    """The lines, without line feeds, that `entries` makes this very entry of again."""
    head = _head(stream, entry_id)
    try:
        lines = _readable(head, fields)
        if next(entries(stream, lines)) == (entry_id, fields):
            return lines
    except (*_undecodable, LineError, StopIteration):
        pass
    return [_opaque(head, fields)]


def entries(stream: str, lines: Iterable[bytes]) -> Iterator[RawEntry]:
    """The entries that these lines, without or with line feeds, are of. Raises LineError."""
    rest = iter(lines)
    for line in rest:
        yield _entry(stream, line.rstrip(b"\n"), rest)


def _entry(stream: str, line: bytes, following: Iterator[bytes]) -> RawEntry:
    """The entry that begins with `line`; the other events of its batch are taken from what
    follows."""
    start = _prefix(stream)
    finish = line.find(b'"', len(start))
    try:
        entry_id = line[len(start) : finish].decode()
        head = _head(stream, entry_id)
        if not line.startswith(head):
            raise ValueError
        found = _START.match(line, len(head))
        if found is None:
            fields = _read_opaque(line, head)
        elif found[1] is None:
            fields = _read_single(line[found.end() :])
        else:
            fields = _read_batch(line, head, found, following)
    except (*_undecodable, OverflowError):
        shown = line[:80].decode("utf-8", "replace")
        raise LineError(f"no line of an entry of {stream}: {shown}") from None
    return entry_id, fields


def _prefix(stream: str) -> bytes:
    return b'{"stream":' + _encode(stream) + b',"entry":"'


def _head(stream: str, entry_id: str) -> bytes:
    ms, dash, sequence = entry_id.partition("-")
    if f"{int(ms)}{dash}{int(sequence)}" != entry_id:
        raise ValueError(entry_id)
    return _prefix(stream) + f'{entry_id}","time":"{rfc3339(entry_id)}",'.encode()


def _readable(head: bytes, fields: tuple[bytes, ...]) -> list[bytes]:
    """Lines with columns. Raises one of `_undecodable` where there are none."""
    if len(fields) == 2 and fields[0] == b"batch":
        fields[1].decode()
        if any(each in fields[1] for each in _BREAKS):
            raise ValueError("breaks lines")
        raws = _items.decode(fields[1])
        for raw in raws:
            _check(bytes(raw))
        count = len(raws)
        return [
            b'%b"index":%d,"batch":%d,%b' % (head, index, count, bytes(raw)[1:])
            for index, raw in enumerate(raws)
        ]
    members = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        shown = value if name == b"data" else _encode(value.decode())
        members.append(b'"%b":%b' % (name, shown))
    event = b"{" + b",".join(members) + b"}"
    event.decode()
    if any(each in event for each in _BREAKS):
        raise ValueError("breaks lines")
    _check(event)
    return [b'%b"index":0,"batch":null,%b' % (head, event[1:])]


def _check(event: bytes) -> None:
    """Whether a JSON object has attributes of fit names, each once, and no spaces between them."""
    members = _members.decode(event)
    length = 1
    for name, value in members.items():
        if name in RESERVED or not _NAME.fullmatch(name):
            raise ValueError(name)
        length += len(name) + 4 + len(bytes(value))
    if length != len(event):
        raise ValueError("not in the usual form")


def _read_batch(
    line: bytes, head: bytes, found: re.Match[bytes], following: Iterator[bytes]
) -> tuple[bytes, ...]:
    count = int(found[1])
    events = [b"{" + line[found.end() :]]
    for index in range(1, count):
        prefix = b'%b"index":%d,"batch":%d,' % (head, index, count)
        line = next(following, b"").rstrip(b"\n")
        if not line.startswith(prefix):
            raise ValueError("the batch is not whole")
        events.append(b"{" + line[len(prefix) :])
    return b"batch", b"[" + b",".join(events) + b"]"


def _read_single(members: bytes) -> tuple[bytes, ...]:
    fields: list[bytes] = []
    for name, value in _members.decode(b"{" + members).items():
        raw = bytes(value)
        fields += [name.encode(), raw if name == "data" else _text.decode(raw).encode()]
    return tuple(fields)


def _opaque(head: bytes, fields: Sequence[bytes]) -> bytes:
    values = b",".join(b'"%b"' % b64encode(value) for value in fields)
    return b'%b"fields":[%b]}' % (head, values)


def _read_opaque(line: bytes, head: bytes) -> tuple[bytes, ...]:
    values = _items.decode(line[len(head) + len(b'"fields":') : -1])
    fields = tuple(b64decode(_text.decode(value), validate=True) for value in values)
    if _opaque(head, fields) != line:
        raise ValueError("not as it is written")
    return fields
