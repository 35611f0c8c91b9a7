"""Connections whose commands are packed in C: redis-py's asyncio ones pack each argument by a
call in Python, which was a quarter of what a commit of 200 jobs costs its sender."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection


class Packing(AbstractConnection):
    """What it adds to a connection."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """As its base does. Raises DataError, likewise, for what cannot be sent."""
        if isinstance(args[0], str) and args[0].isalpha():  # "CONFIG GET" is two words
            try:
                return [hiredis.pack_command(args)]
            except TypeError:
                pass  # a bytearray or memoryview, or what its base says better
        return super().pack_command(*args)


class Plain(Packing, Connection):
    """A connection over TCP."""


class Encrypted(Packing, SSLConnection):
    """A connection over TLS."""
