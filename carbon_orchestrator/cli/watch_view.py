"""What `watch` shows: what is known, and its lines for a terminal of any size. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from rich.text import Text

from carbon_orchestrator.cli.charts import BANDS, Bounds, bars, sparkline
from carbon_orchestrator.cli.event_text import line
from carbon_orchestrator.cli.job_text import intensity_note, time_note
from carbon_orchestrator.cli.output import STATES, printable
from carbon_orchestrator.cli.quantities import duration, mass, percent
from carbon_orchestrator.client.live import Event
from carbon_orchestrator.clock import parse_time

_HOUR_MS = 3_600_000
_PAST, _AHEAD = 6 * _HOUR_MS, 24 * _HOUR_MS
_WIDE = 100  # columns from which tables stand side by side
_LEAST_EVENTS = 5
_KEPT = 200
_SHORT_ID = 10


class Seen(msgspec.Struct):
    """Answers of the gateway as they came last; None until then, or where we may not ask.
    `away`: why there are none at present."""

    url: str
    grid: dict[str, Any] | None = None
    past: Sequence[dict[str, Any]] = ()
    overview: dict[str, Any] | None = None
    pools: Sequence[dict[str, Any]] = ()
    streams: Sequence[dict[str, Any]] = ()
    missing: Sequence[str] = ()
    events: deque[Event] = msgspec.field(default_factory=lambda: deque(maxlen=_KEPT))
    away: str = ""


def lines(seen: Seen, now: int, width: int, height: int) -> list[Text]:
    """`height` lines at most, of `width` columns at most; the latest events fill what is left."""
    made = [*_grid(seen, now, width), Text(), *_figures(seen, width), Text()]
    pools, streams = _pools(seen), _streams(seen)
    if width >= _WIDE:
        made += _beside(pools, streams, width)
    else:
        made += pools
        if streams and len(made) + len(streams) + _LEAST_EVENTS < height:
            made += [Text(), *streams]
    left = height - len(made) - 3
    if left > 0:
        made += [Text(), Text("Latest", "bold"), *_events(seen, left, width)]
    made = made[: height - 1]
    made += [Text()] * (height - 1 - len(made)) + [_foot(seen)]
    for each in made:
        each.truncate(width, overflow="ellipsis")
    return made


def _grid(seen: Seen, now: int, width: int) -> list[Text]:
    grid = seen.grid
    if grid is None:
        return [Text(f"{seen.url}: no answer yet", "dim")]
    band = grid.get("band") or ""
    head = Text.assemble(
        (f"{grid['zone']}  ", "bold"),
        (intensity_note(grid), BANDS[band]),
        (f"  {time_note(grid)}", "dim"),
    )
    if grid.get("intensity") is None:
        return [head]
    bounds = Bounds(grid.get("low"), grid.get("high"))
    current = {"time": grid["since"], "intensity": grid["intensity"]}
    room = max(10, width - 14)
    begin = _PAST * room // (_PAST + _AHEAD)
    shown = bars([*seen.past, current], grid["forecast"], now, now - _PAST, now + _AHEAD, room)
    spark = list(sparkline(shown, bounds))
    spark.insert(begin + 1, ("┊", "bold"))
    limits = ""
    if bounds.low is not None and bounds.high is not None:
        limits = f"  low up to {bounds.low:.0f}, high from {bounds.high:.0f}"
    under = f"{'':7}{'':{begin}}^ now{limits}"
    return [head, Text.assemble(("-6h    ", "dim"), *spark, ("  +24h", "dim")), Text(under, "dim")]


def _figures(seen: Seen, width: int) -> list[Text]:
    """Numbers with their names, as many in a line as there is room for."""
    told = seen.overview
    if told is None:
        return (
            [Text("this API key sees one project: no figures of all", "dim")] if seen.grid else []
        )
    jobs, sums, rates = told["jobs"], told["emissions"], told["rates"]
    share = percent(sums["avoided_ug"], sums["baseline_ug"]).lstrip("+")
    risk, oldest = told["deadline_risk"], told["oldest_wait"]
    items = [
        ("running", f"{told['running']['fast']} FAST, {told['running']['eco']} ECO", "cyan"),
        ("waiting", str(told["waiting"]), ""),
        ("oldest", duration(oldest["waits_ms"]) if oldest else "", ""),
        ("in", f"{rates['submitted_per_min']:g}/min", ""),
        ("done", f"{rates['completed_per_min']:g}/min", ""),
        ("completed", str(jobs["completed"]), ""),
        ("failed", str(jobs["failed"]), "red" if jobs["failed"] else ""),
        ("dead letters", str(told["dead_letters"]), "red" if told["dead_letters"] else ""),
        ("deadlines at risk", str(risk["jobs"]), "red" if risk["jobs"] else ""),
        ("emitted", f"{mass(sums['emitted_ug'])} CO2e", ""),
        ("avoided", mass(sums["avoided_ug"]) + (f" ({share})" if share else ""), "green"),
    ]
    made = [Text()]
    for name, value, style in items:
        if not value:
            continue
        item = Text.assemble((f"{name} ", "dim"), (value, style))
        if made[-1].cell_len and made[-1].cell_len + item.cell_len + 3 > width:
            made.append(Text())
        if made[-1].cell_len:
            made[-1].append("   ")
        made[-1].append_text(item)
    return made


def _pools(seen: Seen) -> list[Text]:
    rows = [
        (
            each["site"],
            str(each["workers"]),
            f"{each['running']}/{each['slots']}",
            "?" if each["waiting"] is None else str(each["waiting"]),
        )
        for each in seen.pools
    ]
    return _table(
        ("POOL", "WORKERS", "RUNNING", "WAITING"), rows, lambda row: "" if row[1] != "0" else "red"
    )


def _streams(seen: Seen) -> list[Text]:
    """Those with something to say; how many have not."""
    busy = [
        each
        for each in seen.streams
        if each["lag"] or each["pending"] or not each["live_consumers"] or each["lag"] is None
    ]
    rows = [
        (
            f"{each['stream']} → {each['group']}",
            "?" if each["lag"] is None else str(each["lag"]),
            str(each["pending"]),
            str(each["live_consumers"]),
        )
        for each in busy
    ]
    made = _table(
        ("STREAM", "LAG", "PENDING", "LIVE"), rows, lambda row: "" if row[3] != "0" else "yellow"
    )
    quiet = len(seen.streams) - len(busy)
    if quiet:
        more, plural = "more " if busy else "", "" if quiet == 1 else "s"
        made.append(Text(f"{quiet} {more}stream{plural} without lag", "dim"))
    if seen.missing:
        made.append(Text(f"NO CONSUMERS: {', '.join(seen.missing)}", "bold red"))
    return made


def _table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], style: Callable[[Sequence[str]], str]
) -> list[Text]:
    """The first column at the left, the others at the right; nothing where there are no rows."""
    if not rows:
        return []
    widths = [max(len(row[at]) for row in (titles, *rows)) for at in range(len(titles))]

    def text(row: Sequence[str], colour: str) -> Text:
        first, *rest = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return Text("  ".join(cells), colour)

    return [text(titles, "bold"), *(text(row, style(row)) for row in rows)]


def _beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    edge = max((each.cell_len for each in left), default=0) + 6
    made = []
    for at in range(max(len(left), len(right))):
        one = left[at].copy() if at < len(left) else Text()
        if at < len(right):
            one.append(" " * (edge - one.cell_len))
            one.append_text(right[at])
        made.append(one)
    return made


def _events(seen: Seen, count: int, width: int) -> Iterable[Text]:
    """The latest at the bottom."""
    if not seen.events:
        return [Text("nothing has happened since", "dim")]
    return [event_line(each, width) for each in list(seen.events)[-count:]]


def event_line(event: Event, width: int) -> Text:
    """When, what, of which job, and what it says; of an id as much as there is room for."""
    at, kind, rest = line(event)
    if event.job and width < _WIDE + 30:
        rest = rest.replace(event.job, event.job[:_SHORT_ID], 1)
    word = kind.rpartition(".")[2]
    return Text.assemble(
        (f"{at[11:]}  ", "dim"), (f"{kind:<20} ", STATES.get(word, "")), printable(rest)
    )


def _foot(seen: Seen) -> Text:
    if seen.away:
        return Text(f"gateway away, trying again: {seen.away}", "bold red")
    return Text(f"q ends   {seen.url}   events at UTC by the wall clock", "dim")


def grid_now(seen: Seen, since: float) -> int:
    """Ms on the grid's clock, `since` seconds after its last answer."""
    if seen.grid is None:
        return 0
    clock = seen.grid["clock"]
    return parse_time(clock["now"]) + round(since * 1000 * float(clock["speed"]))
