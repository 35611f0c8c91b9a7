"""The books of a pool: what is booked is not promised again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.router.capacity import BUCKET_MS, WHOLE, Booking, Ledger
from streams.commit import Transaction

HOUR = 3_600_000
runs = st.tuples(st.integers(0, 200 * HOUR), st.integers(1, 30 * HOUR))


class Writes(Transaction):
    """Collects increments as the server would."""

    def __init__(self) -> None:
        super().__init__()
        self.hash: dict[bytes, bytes] = {}

    def increment(self, key: str, field: str, by: int) -> Transaction:  # type: ignore[override]
        old = int(self.hash.get(field.encode(), b"0"))
        self.hash[field.encode()] = str(old + by).encode()
        return self


@given(st.lists(runs, max_size=20), st.integers(1, 3))
def test_the_books_say_what_the_ledger_says(jobs: list[tuple[int, int]], slots: int) -> None:
    ledger, books = Ledger(slots), Writes()
    for start, length in jobs:
        booking = Booking.of(start, start + length)
        ledger.book(booking)
        booking.write(books, "booked:eco")
    read = Ledger.read(slots, books.hash)
    for length in (60_000, 2 * HOUR):
        assert read.full(length, 0, 260 * HOUR) == ledger.full(length, 0, 260 * HOUR)


@given(st.lists(runs, min_size=1, max_size=20))
def test_taking_back_leaves_nothing(jobs: list[tuple[int, int]]) -> None:
    ledger, books = Ledger(1), Writes()
    for sign in (1, -1):
        for start, length in jobs:
            booking = Booking.of(start, start + length)
            ledger.book(booking, sign)
            booking.write(books, "booked:eco", sign)
    assert ledger.full(HOUR, 0, 300 * HOUR) == ()
    assert set(books.hash.values()) <= {b"0"}


@given(st.lists(runs, max_size=30), st.integers(1, 4))
def test_nothing_fits_into_what_is_full_and_all_into_the_rest(
    jobs: list[tuple[int, int]], slots: int
) -> None:
    """Taken one after the other, jobs that keep out of what is full never exceed the pool."""
    ledger = Ledger(slots)
    load: dict[int, int] = {}
    for start, length in jobs:
        end = start + length
        full = ledger.full(length, start, end)
        assert all(a < b for stretch in full for a, b in [stretch])
        assert all(b < c for (_, b), (c, _) in pairwise(full))
        if full:
            continue
        booking = Booking.of(start, end)
        ledger.book(booking)
        for bucket in range(booking.first, booking.last):
            load[bucket] = load.get(bucket, 0) + booking.weight
    assert all(each <= slots * WHOLE for each in load.values())


def test_a_pool_of_one_is_full_while_one_runs() -> None:
    ledger = Ledger(1)
    ledger.book(Booking.of(HOUR, 2 * HOUR))
    assert ledger.full(HOUR, 0, 5 * HOUR) == ((HOUR, 2 * HOUR),)
    assert ledger.full(HOUR, 2 * HOUR, 5 * HOUR) == ()


def test_many_short_jobs_share_a_bucket() -> None:
    ledger = Ledger(1)
    minute = 60_000
    for _ in range(14):
        assert ledger.full(minute, 0, BUCKET_MS) == ()
        ledger.book(Booking.of(0, minute))
    ledger.book(Booking.of(0, minute))
    assert ledger.full(minute, 0, BUCKET_MS) == ((0, BUCKET_MS),)


def test_without_a_limit_there_is_always_room() -> None:
    ledger = Ledger(None)
    ledger.book(Booking.of(0, 9 * HOUR))
    assert ledger.full(HOUR, 0, 9 * HOUR) == ()
