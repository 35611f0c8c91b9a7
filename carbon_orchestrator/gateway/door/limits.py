"""How much one key may ask for: a rate, and a share of the queue."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import msgspec


class Grant(msgspec.Struct, frozen=True):
    """Whether a request may go on; how many more may follow at once; seconds until one may."""

    allowed: bool
    left: int
    wait: float


class Rates:
    """A token bucket for each key: `burst` requests at once, `rate` more each second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many

    def take(self, key_id: str) -> Grant:
        """Count one request."""
        now = self._clock()
        tokens, then = self._buckets.get(key_id, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        if allowed:
            tokens -= 1
        self._buckets[key_id] = (tokens, now)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        return Grant(allowed, int(tokens), wait)

    def keep(self, key_ids: Collection[str]) -> None:
        """Forget the buckets of all other keys."""
        for gone in [each for each in self._buckets if each not in key_ids]:
            del self._buckets[gone]

    def headers(self, grant: Grant) -> dict[str, str]:
        """What a client is told (draft-ietf-httpapi-ratelimit-headers-10)."""
        window = max(1, math.ceil(self._burst / self._rate))
        return {
            "RateLimit-Policy": f'"key";q={self._burst};w={window}',
            "RateLimit": f'"key";r={grant.left};t={math.ceil(grant.wait)}',
        }
