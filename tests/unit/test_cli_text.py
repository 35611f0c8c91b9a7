"""What the command line says and draws, without a gateway."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_orchestrator.cli import job_text
from carbon_orchestrator.cli.bulk_submit import pieces
from carbon_orchestrator.cli.charts import Bar, Bounds, bars, chart, sparkline
from carbon_orchestrator.cli.event_text import line
from carbon_orchestrator.cli.faults import Failure
from carbon_orchestrator.cli.grid_time import GridTime
from carbon_orchestrator.cli.output import fitting
from carbon_orchestrator.cli.watch_view import Seen, lines
from carbon_orchestrator.client.live import Event
from carbon_orchestrator.clock import parse_time, rfc3339

NOW = parse_time("2026-01-31T18:00Z")
HOUR = 3_600_000


def points(start: int, *values: float) -> list[dict[str, Any]]:
    return [
        {"time": rfc3339(start + n * HOUR), "intensity": value, "low": value - 5, "high": value + 5}
        for n, value in enumerate(values)
    ]


def drawn(rows: Any) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def test_a_band_that_is_left_later_is_still_that_band_and_a_fast_clock_says_how_fast() -> None:
    clock = {"now": rfc3339(NOW), "speed": 60.0}
    grid = {"clock": clock, "intensity": 308, "low": 301, "high": 348, "simulated": True}
    assert "308 gCO2e/kWh (still low)" in job_text.intensity_note({**grid, "band": "low"})
    assert "308 gCO2e/kWh (medium)" in job_text.intensity_note({**grid, "band": "medium"})
    assert "60x (an hour of it takes 1m00s)" in job_text.clock_note({**grid, "band": "low"})
    clock["speed"] = 1
    assert "an hour" not in job_text.clock_note({**grid, "band": "low"})


def test_a_narrow_terminal_has_the_columns_that_matter_most_whole() -> None:
    columns = job_text.JOB_COLUMNS
    last = columns[-1].title

    def kept(width: int, why: int = 200) -> list[str]:
        widths = [28, 10, 9, 8, 4, 6, 6, why]
        return [columns[at].title for at in fitting(columns, widths, width)]

    assert kept(120) == [each.title for each in columns]
    assert kept(80) == kept(80, why=11) == ["id", "state", "type", "starts", last]
    assert kept(20) == ["id", "state", "type", last]


# -- charts --------------------------------------------------------------------------------------


def test_bars_are_means_over_their_time() -> None:
    past, ahead = points(NOW - 2 * HOUR, 100, 200), points(NOW, 300, 500)
    past.append({"time": rfc3339(NOW), "intensity": 250})
    shown = bars(past, ahead, NOW, NOW - 2 * HOUR, NOW + 2 * HOUR, 4)
    assert [each and (each.value, each.ahead) for each in shown] == [
        (100, False),
        (200, False),
        (250, False),
        (500, True),
    ]
    assert shown[3] is not None
    assert shown[3].high == 505
    halves = bars(past, ahead, NOW, NOW - 2 * HOUR, NOW + 2 * HOUR, 2)
    assert [each and each.value for each in halves] == [150, 375]
    assert bars([], [], NOW, NOW, NOW + HOUR, 3) == [None] * 3


def test_a_chart_says_bands_without_colours() -> None:
    shown = [
        Bar(NOW + (n - 2) * 6 * HOUR, value, n > 2, value)
        for n, value in enumerate((50, 100, 150, 200, 100))
    ]
    rows = drawn(chart(shown, Bounds(100, 160), 10, NOW))
    assert len(rows) == 11
    assert rows[0].split()[0] == "200", "the highest"
    assert [row.split()[0] for row in rows[:-1] if row[:6].strip()] == ["200", "160", "100", "0"]
    bound = next(row for row in rows if row.startswith("  160"))
    assert "╌" in bound
    assert "now" in rows[-1]
    assert all(row[6 + 3] == "░" for row in rows[5:-1]), "what is ahead looks different"
    assert {len(row) for row in rows} == {6 + 5}


def test_a_sparkline_goes_from_nothing_to_the_highest() -> None:
    shown = [None, Bar(0, 0.0), Bar(1, 50.0), Bar(2, 100.0, True)]
    spans = list(sparkline(shown, Bounds(60, 90)))
    assert "".join(text for text, _ in spans) == " ▁▄█"
    assert [style for _, style in spans] == ["", "green", "green", "red dim"]
    assert [Bounds(60, 90).band(value) for value in (60, 61, 90)] == ["low", "medium", "high"]


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 2000), max_size=12),
    st.lists(st.floats(0, 2000), max_size=12),
    st.integers(1, 40),
    st.integers(2, 20),
)
def test_a_chart_fits_whatever_it_shows(
    past: list[float], ahead: list[float], width: int, height: int
) -> None:
    shown = bars(
        points(NOW - len(past) * HOUR, *past),
        points(NOW + HOUR, *ahead),
        NOW,
        NOW - 6 * HOUR,
        NOW + 6 * HOUR,
        width,
    )
    assert len(shown) == width
    rows = drawn(chart(shown, Bounds(100, 200), height, NOW))
    assert len(rows) == height + 1
    assert all(len(row) <= 6 + max(width, 3) for row in rows)
    assert len(list(sparkline(shown, Bounds()))) == width


# -- watch ---------------------------------------------------------------------------------------


def seen(**more: Any) -> Seen:
    grid = {
        "zone": "GB",
        "clock": {"now": rfc3339(NOW), "speed": 1.0},
        "intensity": 187.0,
        "since": rfc3339(NOW),
        "band": "medium",
        "low": 150.0,
        "high": 250.0,
        "source": "neso",
        "forecast": points(NOW + HOUR, 190, 210, 260, 120),
    }
    overview = {
        "jobs": {"completed": 41, "failed": 2},
        "running": {"fast": 3, "eco": 1},
        "waiting": 12,
        "oldest_wait": {"waits_ms": 3_600_000},
        "dead_letters": 1,
        "deadline_risk": {"jobs": 2},
        "rates": {"submitted_per_min": 6.0, "completed_per_min": 5.5},
        "emissions": {"emitted_ug": 4_000_000, "avoided_ug": 1_000_000, "baseline_ug": 5_000_000},
    }
    pools = [
        {"site": "fast", "workers": 2, "running": 3, "slots": 4, "waiting": 5},
        {"site": "eco", "workers": 0, "running": 0, "slots": 0, "waiting": None},
    ]
    streams = [
        {"stream": "jobs", "group": "router", "lag": 7, "pending": 1, "live_consumers": 1},
        {
            "stream": "completions",
            "group": "accounting",
            "lag": 0,
            "pending": 0,
            "live_consumers": 1,
        },
    ]
    found = Seen(
        "http://gateway", grid, points(NOW - 6 * HOUR, *[200.0] * 6), overview, pools, streams
    )
    for n in range(30):
        found.events.append(event(f"{n:026}-0"))
    for name, value in more.items():
        setattr(found, name, value)
    return found


def event(job_id: str, **more: Any) -> Event:
    told: dict[str, Any] = {
        "type": "job.cancel_requested",
        "job": job_id,
        "at": datetime(2026, 1, 31, 18, tzinfo=UTC),
        "data": {"job_id": job_id},
        **more,
    }
    return Event(**told)


def test_a_screen_tells_what_matters() -> None:
    text = "\n".join(each.plain for each in lines(seen(), NOW, 120, 40))
    for word in ("187 gCO2e/kWh (medium)", "┊", "3 FAST, 1 ECO", "12", "1h00m", "5.5/min", "3/4"):
        assert word in text
    for word in (
        "jobs → router",
        "1 more stream without lag",
        "deadlines at risk 2",
        "avoided 1 g (20 %)",
    ):
        assert word in text
    assert "emissions" not in text, "it has nothing to say"
    assert f"{29:026}-0"[:10] in text, "the latest"


def test_a_screen_says_what_is_missing() -> None:
    away = seen(away="no gateway at http://gateway", missing=["worker eco"])
    text = "\n".join(each.plain for each in lines(away, NOW, 120, 40))
    assert "NO CONSUMERS: worker eco" in text
    assert "trying again: no gateway" in text
    nothing = lines(Seen("http://gateway"), NOW, 80, 24)
    assert "no answer yet" in nothing[0].plain
    bound = "\n".join(each.plain for each in lines(seen(overview=None), NOW, 80, 24))
    assert "one project" in bound


@settings(max_examples=30)
@given(st.integers(20, 200), st.integers(5, 60))
def test_a_screen_fits_any_terminal(width: int, height: int) -> None:
    shown = lines(seen(), NOW, width, height)
    assert len(shown) <= height
    assert all(each.cell_len <= width for each in shown)


def test_events_in_a_line() -> None:
    assert line(event("7-0")) == (
        "2026-01-31 18:00:00",
        "job.cancel_requested",
        "7-0 cancelled by request",
    )
    gap = Event(type="gap", data={"streams": ["jobs"], "detail": "trimmed"})
    assert line(gap) == ("", "gap", "streams: ['jobs']; detail: trimmed")
    scaled = {
        "site": "eco",
        "replicas": 2,
        "previous": 1,
        "reason": "backlog",
        "at": 1,
        "pool": "eco",
    }
    assert line(Event(type="pool.scaled", data=scaled))[1] == "pool.scaled"


# -- a job ---------------------------------------------------------------------------------------


def test_what_a_job_is_doing() -> None:
    def doing(**job: Any) -> str:
        return job_text.doing(job, rfc3339(NOW))

    planned = {"planned_start": rfc3339(NOW + 3 * HOUR), "planned_pool": "eco"}
    assert doing(state="submitted") == "submitted"
    assert doing(state="deferred", **planned) == (
        "deferred: starts in 3h00m on ECO (2026-01-31 21:00 UTC)"
    )
    assert "any moment" in doing(state="deferred", planned_start=rfc3339(NOW - 1))
    started = [{"event": "started", "at": rfc3339(NOW - 90_000)}]
    progress = {"fraction": 0.42, "message": "epoch 3", "finish_at": rfc3339(NOW + 60_000)}
    assert doing(state="running", timeline=started, progress=progress) == (
        "running for 1m30s: 42 %, epoch 3, done in 1m00s"
    )
    assert doing(state="running", timeline=started) == "running for 1m30s"


def test_the_grids_clock_goes_on() -> None:
    ticks = iter([10.0, 12.5])
    time = GridTime({"clock": {"now": rfc3339(NOW), "speed": 60.0}}, lambda: next(ticks))
    assert time.now() == rfc3339(NOW + 150_000)


# -- files of jobs -------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([b'{"type":"a"}', b"", b"  ", b"{bad", b'{"t": "\xc3\xa9"}'])),
    st.booleans(),
    st.integers(1, 30),
)
def test_lines_keep_their_numbers_however_they_are_read(
    jobs: list[bytes], ended: bool, size: int
) -> None:
    text = b"\n".join(jobs) + (b"\n" if ended else b"")
    found = [each for piece, _ in pieces(Dripping(text, size), "-") for each in piece]
    assert found == [(n, each) for n, each in enumerate(text.split(b"\n"), 1) if each.strip()]


class Dripping(io.BytesIO):
    """Gives so many bytes at a time."""

    def __init__(self, text: bytes, size: int) -> None:
        super().__init__(text)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self._size)

    def fileno(self) -> int:
        raise OSError


def test_a_files_share_is_known(tmp_path: Path) -> None:
    path = tmp_path / "jobs.ndjson"
    path.write_bytes(b'{"type":"a"}\n' * 200_000)
    with path.open("rb") as file:
        shares = [share for _, share in pieces(file, "jobs")]
    assert len(shares) > 1
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert shares[-1] == 1.0


@pytest.mark.parametrize("text", [b"[1, 2", b"[}", b"[\xff]"])
def test_an_array_that_is_none(text: bytes) -> None:
    with pytest.raises(Failure, match="not JSON"):
        list(pieces(io.BytesIO(text), "jobs.json"))
