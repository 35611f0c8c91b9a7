"""How results are shown: coloured tables on a terminal, plain text in a pipe, JSON on request.

Whatever is shown may come from strangers (payloads, labels, output of jobs), so control
characters never reach the terminal as such.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="print JSON")]

#: Colours of words that say how something stands.
STATES: Mapping[str, str] = {
    "deferred": "yellow",
    "dispatched": "cyan",
    "running": "cyan",
    "started": "cyan",
    "completed": "green",
    "failed": "red",
    "timeout": "red",
    "rejected": "red",
    "cancelled": "magenta",
    "ok": "green",
    "warn": "yellow",
    "unknown": "yellow",
    "fail": "bold red",
}
#: Columns of characters that a flexible column keeps, however narrow the terminal.
_NARROWEST = 16
_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class Column(msgspec.Struct, frozen=True):
    """A table's column. Where a terminal is too narrow, the one `flexible` column of a table
    is broken into lines or cut off, and those that are to `spare` are left out, the greatest
    first (0: never); the others stay whole."""

    title: str
    right: bool = False
    spare: int = 0
    flexible: Literal["wraps", "crops"] | None = None
    styles: Mapping[str, str] = {}


def on_terminal() -> bool:
    """Whether a person is likely to read standard output; $FORCE_COLOR says that one is."""
    return interactive() or bool(os.environ.get("FORCE_COLOR"))


def interactive() -> bool:
    """Whether what is written to standard output may be written over."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with control, formatting and surrogate characters escaped; `lines` keeps \\n."""
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\t", "    ")
    return "".join(
        each
        if (lines and each == "\n") or unicodedata.category(each) not in _ESCAPED
        else each.encode("unicode_escape").decode()
        for each in text
    )


def write(text: str, end: str = "\n") -> None:
    """One or more lines on standard output, at once. Raises BrokenPipeError."""
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except UnicodeEncodeError:  # a terminal that knows no µ
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + end)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def hint(text: str) -> None:
    """A remark for a person, on standard error, so that it is never piped on."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_json(value: Any) -> None:
    """One JSON document, indented. Bytes and Structs are not expected in it."""
    write(json.dumps(value, indent=2))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Rows of text under their titles; a cell may have several lines."""
    cells = [[printable(cell, lines=True) for cell in row] for row in rows]
    if on_terminal():
        _rich_table(columns, cells)
    else:
        titles = [each.title.upper().replace(" ", "-") for each in columns]
        write(_aligned(columns, [titles, *cells]))


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    rows = [[name, printable(value, lines=True)] for name, value in pairs if value]
    if not on_terminal():
        write(_aligned([Column("")] * 2, rows))
        return
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, _styled(value, STATES))
    _print(grid)


def title(text: str) -> None:
    """A heading over what follows."""
    if on_terminal():
        _print(_text(f"\n{text}", "bold"))
    else:
        write(f"\n{text}")


def note(text: str, style: str = "dim") -> None:
    """A remark under a table."""
    if on_terminal():
        _print(_text(printable(text, lines=True), style))
    else:
        write(printable(text, lines=True))


def coloured(text: str, word: str) -> str:
    """`text` in the colour of a word of STATES, for lines that are written as they come."""
    if not on_terminal() or os.environ.get("NO_COLOR"):
        return text
    codes = {"green": "32", "yellow": "33", "red": "31", "cyan": "36", "magenta": "35"}
    code = codes.get(STATES.get(word, ""))
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, nothing cut off, one line a row."""
    flat = [[" ".join(cell.split("\n")) or "-" for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in flat) if flat else 0 for at in range(len(columns))]
    lines = []
    for row in flat:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    terminal = console()
    shown = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    widths = [
        max(len(line) for cell in (column.title, *cells) for line in cell.split("\n"))
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    kept = fitting(columns, widths, terminal.width)
    columns, widths = [columns[at] for at in kept], [widths[at] for at in kept]
    rows = [[row[at] for at in kept] for row in rows]
    for column, width in zip(columns, widths, strict=True):
        if column.flexible:
            left = terminal.width - (sum(widths) - width) - 2 * (len(columns) - 1)
            width = max(_NARROWEST, min(width, left))
        shown.add_column(
            column.title,
            justify="right" if column.right else "left",
            width=width,
            no_wrap=column.flexible != "wraps",
            overflow="ellipsis" if column.flexible == "crops" else "fold",
        )
    for row in rows:
        styled = zip(row, columns, strict=True)
        shown.add_row(*[_styled(cell, column.styles) for cell, column in styled])
    terminal.print(shown)


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Which columns have room in so many characters, by their places."""
    kept = list(range(len(columns)))
    spare = sorted((at for at in kept if columns[at].spare), key=lambda at: columns[at].spare)
    needs = [
        _NARROWEST if column.flexible else each
        for column, each in zip(columns, widths, strict=True)
    ]
    while spare and sum(needs[at] + 2 for at in kept) - 2 > width:
        kept.remove(spare.pop())
    return kept


def _styled(cell: str, styles: Mapping[str, str]) -> Text:
    return _text(cell, styles.get(cell, ""))


def _text(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style)


def _print(what: Any) -> None:
    console().print(what)


def console() -> Console:
    """Where a person reads."""
    from rich.console import Console

    return Console(highlight=False)
