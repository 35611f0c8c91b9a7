"""How far a job is, told to who runs it: a line such as "0.42 epoch 3 of 7" to $CARBON_PROGRESS."""

from __future__ import annotations

import os
from contextlib import suppress


class Progress:
    """Tells each new percent. By hand there is nobody to tell."""

    def __init__(self) -> None:
        self._path = os.environ.get("CARBON_PROGRESS")
        self._percent = -1

    def tell(self, done: int, of: int, what: str) -> None:
        """`done` `of` so many are done, in words "`what` `done` of `of`"."""
        percent = 100 * done // of
        if self._path is None or percent == self._percent:
            return
        self._percent = percent
        with suppress(OSError), open(self._path, "w") as pipe:
            pipe.write(f"{done / of:.4f} {what} {done} of {of}\n")
