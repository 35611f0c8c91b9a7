"""Small tables for notebooks. Pure.

Whoever submits a job chooses its texts: none of them may be markup. No colours are set, so that
they go with a notebook's theme, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

#: Rows of a list that are shown; how many are left out is said.
MOST_ROWS = 100
_LEFT = " style='text-align:left'"


def facts(rows: Mapping[str, str]) -> str:
    """Names and values, one a line; those without a value are left out."""
    lines = (
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(text)}</td></tr>"
        for name, text in rows.items()
        if text
    )
    return f"<table>{''.join(lines)}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], count: int) -> str:
    """The first of `count` rows, under their titles."""
    lines = [_line("td", row) for _, row in zip(range(MOST_ROWS), rows, strict=False)]
    left = count - len(lines)
    more = f"<p>and {left} more</p>" if left > 0 else ""
    return f"<table>{_line('th', columns)}{''.join(lines)}</table>{more}"


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}{_LEFT}>{escape(each)}</{tag}>' for each in cells)}</tr>"
