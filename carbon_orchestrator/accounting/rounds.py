"""Work that is done again and again, whatever befalls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff
from streams.stop import Stop

log = structlog.get_logger(__name__)


async def rounds(stop: Stop, seconds: float, work: str, act: Callable[[], Awaitable[Any]]) -> None:
    """`act` every so many seconds until the stop; sooner after an error."""
    waits = backoff()
    while not stop.is_set():
        try:
            await act()
            waits = backoff()
            await stop.sleep(seconds)
        except Exception as error:
            if not isinstance(error, CommitUnknown) and not is_transient(error):
                log.exception(f"{work} failed, going on")
            await stop.sleep(next(waits))
