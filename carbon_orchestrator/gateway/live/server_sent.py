"""Server-sent events as the HTML standard has them (section 9.2.5, parsing an event stream).
Pure."""

from __future__ import annotations

import re

#: For how long a client is to wait before it connects again, ms.
RETRY_MS = 2000
_ENDS = re.compile(r"\r\n|\r|\n")


def opening(position: str) -> bytes:
    """The first frame: nothing has happened, and from where to go on."""
    return f"retry: {RETRY_MS}\nid: {position}\n\n".encode()


def event(kind: str, data: str) -> bytes:
    """The lines of an event, to go after those of `at`."""
    lines = _ENDS.split(data) if "\n" in data or "\r" in data else [data]
    shown = "".join(f"data: {line}\n" for line in lines)
    return f"event: {kind}\n{shown}\n".encode()


def at(position: str) -> bytes:
    """The line that says how far one has read who has read this frame."""
    return f"id: {position}\n".encode()


def heartbeat(position: str) -> bytes:
    """A sign of life, and how far one has read; no event."""
    return f": \nid: {position}\n\n".encode()


def comment(text: str) -> bytes:
    """What is said to people only."""
    return f": {text}\n\n".encode()
