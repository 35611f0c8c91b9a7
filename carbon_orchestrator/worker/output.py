"""The end of a job's output, in bounded memory."""

from __future__ import annotations

from threading import Lock


class OutputTail:
    """Keeps the last `limit` bytes written and counts them all. Safe between threads."""

    __slots__ = ("_limit", "_lock", "_tail", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail = bytearray()
        self._lock = Lock()
        self.total = 0  # bytes written

    def write(self, data: bytes) -> None:
        with self._lock:
            self.total += len(data)
            self._tail += data
            # Trimmed now and then, so that many short lines do not each move the whole tail.
            if len(self._tail) > 2 * self._limit:
                del self._tail[: len(self._tail) - self._limit]

    def text(self) -> str:
        """The tail as text; bytes that are not UTF-8 become U+FFFD."""
        with self._lock:
            start = max(0, len(self._tail) - self._limit)
            return self._tail[start:].decode("utf-8", "replace")
