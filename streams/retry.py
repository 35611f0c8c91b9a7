"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(first: float = 0.05, most: float = 2.0) -> Iterator[float]:
    """Endless waits in seconds: doubling from `first` to `most`, with ±50 % jitter."""
    wait = first
    while True:
        yield wait * random.uniform(0.5, 1.5)
        wait = min(wait * 2, most)
