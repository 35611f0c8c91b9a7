"""Commands packed in C are, byte for byte, what redis-py packs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from redis.asyncio.connection import Connection
from redis.exceptions import DataError

from streams.cluster import ToSlot, ToSlotEncrypted
from streams.connection import connect
from streams.packing import Encrypted, Packing, Plain

ARGUMENTS = some.one_of(
    some.text(),
    some.binary(),
    some.integers(),
    some.floats(),
    some.binary().map(bytearray),
    some.binary().map(memoryview),
    some.integers(6_000, 200_000).map(bytes),
)
NAMES = some.sampled_from(("GET", "EVALSHA", "CONFIG GET", b"GET", b"CLUSTER SLOTS"))
COMMANDS = some.tuples(NAMES, some.lists(ARGUMENTS, max_size=20)).map(
    lambda command: (command[0], *command[1])
)


@given(COMMANDS)
def test_a_command_is_packed_as_redis_py_does(command: tuple[Any, ...]) -> None:
    assert b"".join(Plain().pack_command(*command)) == b"".join(Connection().pack_command(*command))


@given(some.lists(COMMANDS, max_size=5))
def test_so_is_a_pipeline(commands: list[tuple[Any, ...]]) -> None:
    ours, theirs = Plain().pack_commands(commands), Connection().pack_commands(commands)
    assert b"".join(ours) == b"".join(theirs)


@pytest.mark.parametrize("value", [True, None, object(), ["a"]])
def test_what_cannot_be_sent_is_refused_in_redis_pys_words(value: object) -> None:
    with pytest.raises(DataError, match=f"Invalid input of type: '{type(value).__name__}'"):
        Plain().pack_command("SET", "key", value)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Plain().pack_command("SET", "key", "\ud800")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", Plain),
        ("rediss://localhost", Encrypted),
        ("redis+cluster://localhost:1,localhost:2", ToSlot),
        ("rediss+cluster://localhost:1,localhost:2", ToSlotEncrypted),
    ],
)
def test_every_connection_packs_so(url: str, kind: type[Packing]) -> None:
    connection = connect(url).connection_pool.make_connection()
    assert type(connection) is kind
    assert type(connection).pack_command is Packing.pack_command
