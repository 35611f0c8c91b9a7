"""Large entries are told without keeping everybody else waiting."""

from __future__ import annotations

import asyncio
from typing import Any

from carbon_orchestrator.events import CancelRequested
from carbon_orchestrator.gateway.live.position import BEGIN, Positions
from carbon_orchestrator.gateway.live.stream_pages import StreamPages
from carbon_orchestrator.gateway.live.subscriber import Subscriber, Wanted
from carbon_orchestrator.gateway.live.tail import told
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.keys import Partition

ENTRIES, EVENTS = 20, 100


class Response:
    """Takes everything at once, as one does whose client reads fast."""

    def __init__(self) -> None:
        self.frames = 0

    async def write(self, data: bytes) -> None:
        self.frames += data.count(b"event: ")


async def test_others_have_their_turn_between_large_entries() -> None:
    pages = StreamPages(Topology(Partition("carbon", 0)))
    event = envelope(CancelRequested(job_id="x"), "test")
    batch = b"[" + b",".join([event] * EVENTS) + b"]"
    entries = [told(pages, 0, 0, (f"{ms}-0", (b"batch", batch))) for ms in range(1, ENTRIES + 1)]
    response: Any = Response()
    places = (BEGIN,) * len(pages.names)
    projects: Any = None  # nothing is asked of it
    subscriber = Subscriber(response, Wanted(), places, Positions(pages.names), projects)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await subscriber.take(entries)
    task.cancel()
    assert response.frames == ENTRIES * EVENTS
    assert turns >= ENTRIES
