"""What goes on record of an attempt can be worked out again from its event and the intensities."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.accounting.figures import KNOWN_MS, Figures, figures
from carbon_orchestrator.config import Config, ConfigError, PowerModel, complete
from carbon_orchestrator.events import Decision, IntensityObserved, JobDispatched, Pool, Spec
from carbon_orchestrator.router.expectation import OnFast
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.run_times import Learned, bucket
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.series import Series
from carbon_orchestrator.worker.burnt import Grid, Run, Share, burnt
from carbon_orchestrator.worker.energy import Energy
from streams.event import Message

HOUR = 3_600_000
START = 1_590_969_600_000  # 2020-06-01
BANDS = Bands.of(Config().threshold)
DECISION = Decision(
    at=START,
    policy="p",
    policy_version=1,
    params=msgspec.Raw(b"{}"),
    fast_ms=1,
    eco_ms=1,
    margin_ms=0,
    pool="eco",
    start=START,
    reason="r",
)


def observed(hour: int, value: float, **more: Any) -> IntensityObserved:
    fields = {"zone": "local", "source": "s", "resolution_ms": HOUR, **more}
    return IntensityObserved(time=START + hour * HOUR, intensity=value, **fields)


def table(*events: IntensityObserved, zone: str = "local") -> Intensities:
    known = Intensities(zone, BANDS)
    for number, event in enumerate(events, 1):
        known.apply(Message(f"{number}-0", 0, event))
    return known


def attempt(grid: Grid, start: int, end: int, mj: int = 3_600_000, **more: Any) -> Any:
    """Hours from submission, at START, on."""
    fields = {
        "attempt": 1,
        "spec": Spec(job_id="j", type="t", submitted_at=START),
        "decision": DECISION,
        **more,
    }
    run = Run(START + start * HOUR, START + end * HOUR, (end - start) * HOUR, "completed")
    return burnt(JobDispatched(**fields), 1, "eco", Energy(mj, "m", 0.3), run, grid)


def test_the_baseline_is_the_job_on_fast_at_submission_as_far_as_that_was_learned() -> None:
    known = table(*(observed(hour, 100.0 * (hour + 1)) for hour in range(6)))
    grid = Grid(known, known)
    event = attempt(grid, 4, 6, fast_energy=2.0, fast_length=0.5)
    assert (event.baseline_mj, event.baseline_ms, event.baseline_from) == (7_200_000, HOUR, START)
    assert event.emissions_ug == 1000 * 550  # 1 Wh at 550 g/kWh
    assert event.baseline_ug == 1000 * 2 * 100
    assert event.priced_by == "6-0/0"
    # What is yet to come cannot count: a longer run on FAST ends when this one has.
    assert attempt(grid, 0, 2, fast_length=3.0).baseline_ms == 2 * HOUR


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 900)), max_size=12),
    st.integers(0, 24),
    st.integers(0, 6),
    st.integers(0, 10**9),
    st.floats(0.1, 10),
    st.floats(0.1, 1),
)
def test_figures_are_worked_out_again_to_the_bit(
    points: list[tuple[int, float]],
    start: int,
    length: int,
    mj: int,
    fast_energy: float,
    fast_length: float,
) -> None:
    known = table(*(observed(hour, value) for hour, value in points))
    event = attempt(
        Grid(known, known),
        start,
        start + length,
        mj,
        fast_energy=fast_energy,
        fast_length=fast_length,
    )
    again = table(*(observed(hour, value) for hour, value in points))
    series = again.of(event.intensity_kind, event.simulated)
    assert event.priced_by == again.applied
    assert figures(event, series, series) == (
        event.emissions_ug,
        event.baseline_ug,
        event.unpriced_mj,
    )


def test_nothing_is_avoided_where_a_part_of_either_window_is_unknown() -> None:
    only_later = table(observed(4, 100.0))
    event = attempt(Grid(only_later, only_later), 4, 5)
    assert event.emissions_ug == event.baseline_ug == 100_000
    only_early = table(observed(0, 500.0))
    event = attempt(Grid(only_early, only_early), 1, 5)
    assert event.unpriced_mj == 1_800_000  # intensities hold for three hours
    assert event.emissions_ug == event.baseline_ug == 250_000


def test_average_and_marginal_are_never_compared() -> None:
    home = table(*(observed(hour, 400.0) for hour in range(4)))
    away = Intensities("far", BANDS)
    for hour in range(4):
        far = observed(hour, 100.0, zone="far", kind="marginal")
        away.apply(Message(f"{hour + 1}-0", 0, far))
    event = attempt(Grid(away, home), 1, 2)
    assert (event.zone, event.baseline_zone) == ("far", "local")
    assert event.baseline_ug == event.emissions_ug == 100_000


def test_what_lies_too_far_back_is_unknown_even_where_the_series_has_it() -> None:
    series = Series(100 * 24 * HOUR)
    series.add(START, 100.0)
    known = table(observed(0, 100.0))
    event = attempt(Grid(known, known), 0, 1)
    assert figures(event, series, series) == Figures(100_000, 100_000, 0)
    late = msgspec.structs.replace(event, at=START + KNOWN_MS, started_at=START)
    assert figures(late, series, series).unpriced_mj == 0
    late = msgspec.structs.replace(event, at=START + KNOWN_MS + 1)
    assert figures(late, series, series) == Figures(0, 0, event.energy_mj)


def test_a_stream_that_was_lost_and_begun_anew_is_read_without_what_it_said_before() -> None:
    known = table(*(observed(hour, 100.0) for hour in range(4)))
    known.apply(Message("2-0", 0, observed(9, 50.0)))
    assert len(known.of("average", False)) == 1
    assert known.applied == "2-0/0"


def test_a_slot_uses_up_its_share_of_the_machine() -> None:
    power = PowerModel(embodied_kg=1000.0, lifetime="40000h")
    share = Share.of(complete(Config(power=power)), 4)
    assert share.embodied_ug(HOUR) == 1000 * 10**9 // 40_000 // 4
    assert Share.of(complete(Config()), 4).embodied_ug(HOUR) == 0
    for bad in (PowerModel(embodied_kg=-1), PowerModel(lifetime="0"), PowerModel(lifetime="x")):
        with pytest.raises(ConfigError, match="power"):
            complete(Config(power=bad))


def runs(count: int, ms: int, mw: int) -> Learned:
    return Learned({bucket(ms): count}, energy_mj=count * ms * mw // 1000, run_ms=count * ms)


def test_the_baseline_of_a_job_on_eco_is_what_both_pools_have_taught() -> None:
    learned: dict[tuple[str, Pool], Learned] = {
        ("t", "fast"): runs(10, 1 << 10, 9000),
        ("t", "eco"): runs(10, 1 << 11, 3000),
        ("u", "fast"): runs(10, 1 << 10, 9000),
        ("u", "eco"): runs(4, 1 << 11, 3000),  # too few
    }
    found = OnFast()
    assert found.of("t", "eco", learned) == pytest.approx((1.5, 0.5))
    assert found.of("t", "fast", learned) == (1.0, 1.0)
    assert found.of("u", "eco", learned) == (1.0, 1.0)
    assert found.of("t", "eco", {}) == (1.0, 1.0)
