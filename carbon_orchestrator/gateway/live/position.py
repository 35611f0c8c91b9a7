"""How far somebody has read all streams, as a short text: exact for each stream, since ids of
different streams need not be in the order of their commits when a clock is stepped. Pure."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

#: Ms and sequence of an entry's id, and how many of its events have been read.
Place = tuple[int, int, int]
#: One for each stream, in their order.
Position = tuple[Place, ...]

#: An entry that has been read to its end, however many events it has.
WHOLE = 1 << 32
BEGIN: Place = (0, 0, WHOLE)

_MOST = 1 << 64
_TAG_BYTES = 4


class BadPosition(ValueError):
    """A text that no gateway gave out as a position."""


def entry_id(place: Place) -> str:
    """The id of its entry."""
    return f"{place[0]}-{place[1]}"


def read_after(place: Place) -> str:
    """The id after which there may be something that has not been read."""
    ms, sequence, taken = place
    if taken == WHOLE:
        return f"{ms}-{sequence}"
    return f"{ms}-{sequence - 1}" if sequence else f"{ms - 1}-{_MOST - 1}"


class Positions:
    """Texts of positions in these streams."""

    def __init__(self, streams: Sequence[str]) -> None:
        self.streams = streams
        self._tag = zlib.crc32("\n".join(streams).encode()).to_bytes(_TAG_BYTES)
        # Readers that keep up are at the same position.
        self.text = lru_cache(maxsize=256)(self._text)

    def _text(self, position: Position) -> str:
        """Letters, digits, "-" and "_"."""
        newest = max(ms for ms, _, _ in position)
        raw = bytearray(self._tag)
        _write(raw, newest)
        for place in position:
            if place == BEGIN:
                _write(raw, 0)
                continue
            ms, sequence, taken = place
            _write(raw, newest - ms + 1)
            _write(raw, sequence)
            _write(raw, 0 if taken == WHOLE else taken + 1)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def parse(self, text: str) -> Position | None:
        """The position in a text; None for one in other streams, as before zones were added.
        Raises BadPosition."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            if len(raw) <= _TAG_BYTES:
                raise ValueError
            if raw[:_TAG_BYTES] != self._tag:
                return None
            numbers = _numbers(raw[_TAG_BYTES:])
            newest = next(numbers)
            position = tuple(_place(numbers, newest) for _ in range(len(self.streams)))
            if next(numbers, None) is not None or self._text(position) != text:
                raise ValueError
            return position
        except (ValueError, binascii.Error, RuntimeError, StopIteration):
            raise BadPosition("no position that was given out; start without one") from None


def _place(numbers: Iterator[int], newest: int) -> Place:
    back = next(numbers)
    if not back:
        return BEGIN
    ms, sequence, taken = newest - back + 1, next(numbers), next(numbers)
    if ms < 0 or taken > WHOLE or (ms, sequence) == BEGIN[:2]:
        raise ValueError
    return ms, sequence, taken - 1 if taken else WHOLE


def _write(raw: bytearray, number: int) -> None:
    """Seven bits a byte, the lowest first (LEB128)."""
    while number > 127:
        raw.append(number & 127 | 128)
        number >>= 7
    raw.append(number)


def _numbers(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 127) << shift
        if number >= _MOST:
            raise ValueError
        if byte & 128:
            shift += 7
        else:
            yield number
            number = shift = 0
    if shift:
        raise ValueError
