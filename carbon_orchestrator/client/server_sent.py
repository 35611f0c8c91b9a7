"""Server-sent events as the HTML standard has them (section 9.2.6, interpreting an event
stream), from bytes cut anywhere. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

#: Of a line, or of one event's data; more is no event of ours.
MOST_BYTES = 16 << 20


class TooLong(ValueError):
    """A line or an event is longer than any of ours."""


class Frame(msgspec.Struct, frozen=True):
    """An event as it came. `position`: to go on from after it, "" if none was ever told."""

    kind: str
    data: str
    position: str


class Frames:
    """The frames of one answer. `position`: as in the last frame that was complete, one without
    data included; `retry`: seconds to wait before connecting again, once the server says so."""

    def __init__(self, position: str = "") -> None:
        self.position = position
        self.retry: float | None = None
        self._rest = b""
        self._size = 0
        self._begin()

    def _begin(self) -> None:
        self._kind, self._id, self._data, self._size = "", self.position, list[str](), 0

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete. Raises TooLong."""
        # A line ends with \n, \r\n or \r; a \r at the end may be half of one.
        text = self._rest + chunk
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = lines.split(b"\n")
        self._rest = rest + b"\r" if held else rest
        if len(self._rest) > MOST_BYTES:
            raise TooLong
        for line in whole:
            if not line:
                self.position = self._id
                if self._data:
                    yield Frame(self._kind or "message", "\n".join(self._data), self.position)
                self._begin()
            else:
                self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
            if self._size > MOST_BYTES:
                raise TooLong
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000
