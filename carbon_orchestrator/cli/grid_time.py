"""The grid's clock, as a gateway tells it, going on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from carbon_orchestrator.clock import parse_time, rfc3339


class GridTime:
    """Set by the answer of /carbon. `clock`: seconds that pass, whatever they count from."""

    def __init__(
        self, grid: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        told = grid["clock"]
        self._then, self.speed = parse_time(told["now"]), float(told["speed"])
        self._clock, self._began = clock, clock()

    def now(self) -> str:
        """RFC 3339."""
        return rfc3339(round(self._then + (self._clock() - self._began) * 1000 * self.speed))
