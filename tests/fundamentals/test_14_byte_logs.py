"""Byte logs: what one writer after another has written, bounded, read from any offset."""

from __future__ import annotations

from random import Random
from typing import Any

from redis.asyncio import Redis

from streams.byte_log import Addition, Piece, append, bounds, bounds_reading, pieces, reading
from streams.keys import Partition


async def add(redis: Redis, key: str, *addition: Any, keep: int = 1000) -> int | None:
    return (await append(redis, [(key, Addition(*addition))], keep, 60_000))[0]


async def read(redis: Redis, key: str, offset: int = 0, count: int = 100) -> list[Piece]:
    return pieces(await redis.execute_command(*reading(key, offset, count)), offset)


async def limits(redis: Redis, key: str) -> tuple[int, int] | None:
    return bounds(*[await redis.execute_command(*each) for each in bounds_reading(key)])


async def test_what_is_appended_is_read_from_any_offset(redis: Redis, partition: Partition) -> None:
    log = partition.key("log")
    assert await limits(redis, log) is None
    assert await read(redis, log) == []
    assert await add(redis, log, 1, 0, b"hello ") == 6
    assert await add(redis, log, 1, 6, b"world") == 11
    assert await read(redis, log) == [Piece(1, 0, b"hello "), Piece(1, 6, b"world")]
    assert await read(redis, log, 8) == [Piece(1, 8, b"rld")]
    assert await read(redis, log, 11) == []
    assert await limits(redis, log) == (0, 11)
    assert await redis.ttl(log) > 0


async def test_an_append_may_be_repeated(redis: Redis, partition: Partition) -> None:
    """As after a reply that was lost, also with more behind it than the first time."""
    log = partition.key("log")
    for data in (b"abc", b"abc", b"abcdef"):
        await add(redis, log, 1, 0, data)
    assert b"".join(each.data for each in await read(redis, log)) == b"abcdef"


async def test_each_writer_goes_on_where_the_one_before_it_ended(
    redis: Redis, partition: Partition
) -> None:
    log = partition.key("log")
    await add(redis, log, 1, 0, b"first")
    await add(redis, log, 2, 0, b"second")
    await add(redis, log, 2, 6, b"!")
    assert await read(redis, log, 4) == [
        Piece(1, 4, b"t"),
        Piece(2, 5, b"second"),
        Piece(2, 11, b"!"),
    ]


async def test_a_writer_that_another_has_followed_can_write_no_more(
    redis: Redis, partition: Partition
) -> None:
    log = partition.key("log")
    await add(redis, log, 1, 0, b"first")
    await add(redis, log, 2, 0, b"second")
    assert await add(redis, log, 1, 5, b"late") is None
    assert (await limits(redis, log)) == (0, 11)


async def test_the_last_bytes_are_kept(redis: Redis, partition: Partition) -> None:
    """All of them, and of what is older the rest of one entry at most."""
    log = partition.key("log")
    for number in range(100):
        await add(redis, log, 1, number * 10, b"%10d" % number, keep=35)
    first, end = await limits(redis, log) or (0, 0)
    assert (first, end) == (960, 1000)
    assert (await read(redis, log, 0))[0] == Piece(1, 960, b"%10d" % 96)


async def test_what_was_never_written_is_a_gap(redis: Redis, partition: Partition) -> None:
    log = partition.key("log")
    await add(redis, log, 1, 0, b"ab")
    await add(redis, log, 1, 10, b"cd")
    assert await read(redis, log) == [Piece(1, 0, b"ab"), Piece(1, 10, b"cd")]


async def test_several_logs_are_appended_to_at_once(redis: Redis, partition: Partition) -> None:
    logs = [partition.key(f"log-{number}") for number in range(3)]
    additions = [(log, Addition(1, 0, log.encode())) for log in logs]
    more = (logs[0], Addition(1, len(logs[0]), b"!"))
    ends = await append(redis, [*additions, more], 1000, 60_000)
    assert ends == [*map(len, logs), len(logs[0]) + 1]
    assert [(await read(redis, log))[0].data for log in logs] == [log.encode() for log in logs]


async def test_any_bytes_in_any_pieces_come_out_as_they_went_in(
    redis: Redis, partition: Partition
) -> None:
    random, log = Random(5), partition.key("log")
    written = b""
    for writer in range(1, 6):
        own = random.randbytes(random.randrange(200))
        done = 0
        while done < len(own):
            size = random.randrange(1, 40)
            again = random.randrange(0, done + 1) if random.random() < 0.3 else done
            await add(redis, log, writer, again, own[again : done + size], keep=10_000)
            done += size
        written += own
    for offset in (0, 1, len(written) // 2, len(written) - 1):
        found = await read(redis, log, offset)
        assert b"".join(each.data for each in found) == written[offset:]
        assert [each.end for each in found[:-1]] == [each.offset for each in found[1:]]
    assert await limits(redis, log) == (0, len(written))
