"""How much to read at a time: so many entries that they are about so many bytes. Pure."""

from __future__ import annotations

PAGE_BYTES = 1 << 20
_FIRST = 16
_GROWTH = 4  # times the one before, at most: what comes next may be larger


class PageSize:
    """`count`: the entries to ask for next, `most` at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = min(_FIRST, most)

    def read(self, size: int) -> None:
        """A page of `count` entries had so many bytes."""
        fitting = self.count * PAGE_BYTES // max(1, size)
        self.count = max(1, min(self._most, _GROWTH * self.count, fitting))
