"""How much is read at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.page_size import PAGE_BYTES, PageSize


def test_a_page_becomes_about_so_many_bytes() -> None:
    pages = PageSize(1000)
    for _ in range(5):
        pages.read(pages.count * 5000)
    assert pages.count == PAGE_BYTES // 5000


def test_it_grows_by_steps_and_shrinks_at_once() -> None:
    pages = PageSize(1000)
    assert pages.count == 16
    pages.read(0)
    assert pages.count == 64
    pages.read(64 * PAGE_BYTES)
    assert pages.count == 1


@given(st.integers(1, 500), st.lists(st.integers(0, 1 << 30)))
def test_it_is_one_entry_at_least_and_no_more_than_allowed(most: int, sizes: list[int]) -> None:
    pages = PageSize(most)
    for size in sizes:
        pages.read(size)
        assert 1 <= pages.count <= most
