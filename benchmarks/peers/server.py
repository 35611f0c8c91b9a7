"""The few words of the Redis protocol that the measuring needs, so that it needs no client."""

from __future__ import annotations

import socket
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

TIMEOUT = 60.0


class ServerError(Exception):
    """The server refused a command; its own words."""


def call(url: str, *commands: tuple[str, ...]) -> list[str]:
    """Run commands on redis://[user:password@]host[:port][/db]; arrays come joined by blanks.

    Raises ServerError for an error reply, OSError when the server cannot be reached.
    """
    parts = urlsplit(url)
    before: list[tuple[str, ...]] = []
    if parts.password:
        credentials = (unquote(parts.username or "default"), unquote(parts.password))
        before.append(("AUTH", *credentials))
    if database := parts.path.strip("/"):
        before.append(("SELECT", database))
    address = (parts.hostname or "127.0.0.1", parts.port or 6379)
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        reader = connection.makefile("rb")
        replies = []
        for command in (*before, *commands):
            connection.sendall(_pack(command))
            replies.append(_read(reader))
    return replies[len(before) :]


def _pack(command: tuple[str, ...]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def _read(reader: BinaryIO) -> str:
    line = reader.readline().decode().rstrip("\r\n")
    kind, rest = line[:1], line[1:]
    if kind == "-" or not kind:
        raise ServerError(rest or "the server closed the connection")
    if kind == "$":
        return "" if rest == "-1" else reader.read(int(rest) + 2)[:-2].decode()
    if kind == "*":
        return " ".join(_read(reader) for _ in range(int(rest)))
    return rest


def description(url: str) -> str:
    """Version and persistence, such as "9.1.0, appendonly yes, appendfsync everysec"."""
    (info,) = call(url, ("INFO", "server"))
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    version = fields.get("valkey_version") or fields.get("redis_version", "unknown")
    settings = call(url, ("CONFIG", "GET", "appendonly"), ("CONFIG", "GET", "appendfsync"))
    return ", ".join((version, *settings))
