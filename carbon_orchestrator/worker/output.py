"""The end of a job's output, in bounded memory."""

from __future__ import annotations

from threading import Lock


class OutputTail:
    """Keeps the last bytes written and counts them all: `limit` of them for the record, `room`,
    if that is more, for those who follow. Safe between threads."""

    __slots__ = ("_limit", "_lock", "_room", "_tail", "total")

    def __init__(self, limit: int, room: int = 0) -> None:
        self._limit = limit
        self._room = max(limit, room)
        self._tail = bytearray()
        self._lock = Lock()
        self.total = 0  # bytes written

    def write(self, data: bytes) -> None:
        with self._lock:
            self.total += len(data)
            self._tail += data
            # Trimmed now and then, so that many short lines do not each move the whole tail.
            if len(self._tail) > 2 * self._room:
                del self._tail[: len(self._tail) - self._room]

    def since(self, offset: int, most: int) -> tuple[int, bytes]:
        """Up to `most` bytes of those from `offset` on that are still here, and the offset of the
        first."""
        with self._lock:
            first = self.total - len(self._tail)
            start = max(offset, first, self.total - self._room)
            return start, bytes(self._tail[start - first : start - first + most])

    def release(self, offset: int) -> None:
        """All before the offset is told: of that, only what the record needs stays."""
        with self._lock:
            spare = min(offset - self.total, -self._limit) + len(self._tail)
            if spare > 0:
                del self._tail[:spare]

    @property
    def whole(self) -> bool:
        """Whether `text` is all that was written, to the byte."""
        return self.total <= self._limit and self.text().encode() == self._tail

    def text(self) -> str:
        """The tail as text; bytes that are not UTF-8 become U+FFFD."""
        with self._lock:
            start = max(0, len(self._tail) - self._limit)
            return self._tail[start:].decode("utf-8", "replace")
