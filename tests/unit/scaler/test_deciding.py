"""How many workers a pool gets: examples that read as the rules, and what holds of all inputs."""

from __future__ import annotations

from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import Config, ScaledPool, Scaler, complete
from carbon_orchestrator.events import Backlog, Band, GridState, InFlight, PoolScaled, ScalingMemory
from carbon_orchestrator.scaler.deciding import VERSION, Params, Scale, decide, recomputed

HOUR, MINUTE, SECOND = 3_600_000, 60_000, 1000
NOW = 1_600_000_000_000
PARAMS = Params(slots=2, max=8, low=1.0, medium=0.5, high=0.25, leave=0.1, window_ms=300_000)
EMPTY = ScalingMemory()


def grid(value: float | None, valid_until: int = NOW + HOUR) -> GridState:
    return GridState(
        intensity_id="1-1/0", intensity=value, low=100.0, high=200.0, valid_until=valid_until
    )


def after(seconds: float, memory: ScalingMemory) -> ScalingMemory:
    """A memory whose window is over, as if so much time had passed."""
    return msgspec.structs.replace(memory, wanted=[(NOW - round(seconds * 1000), 0)])


def size(value: float | None, current: int, memory: ScalingMemory = EMPTY, **counts: int) -> Scale:
    inside = InFlight(jobs=counts.pop("jobs", 0), workers=counts.pop("workers", 0))
    return decide(PARAMS, grid(value), Backlog(**counts), inside, current, NOW, memory)


class Pool:
    """A pool over time: whatever is decided is done at once."""

    def __init__(self, current: int, params: Params = PARAMS) -> None:
        self.now, self.current, self.memory, self.params = NOW, current, EMPTY, params

    def look(self, value: float | None, later: int = 15 * SECOND, **counts: int) -> int:
        self.now += later
        inside = InFlight(jobs=counts.pop("jobs", 0), workers=counts.pop("workers", 0))
        known = grid(value, self.now + HOUR)
        scale = decide(
            self.params, known, Backlog(**counts), inside, self.current, self.now, self.memory
        )
        self.current, self.memory = scale.replicas, scale.memory
        return self.current


# -- the rules, one by one ---------------------------------------------------------------------


@pytest.mark.parametrize(("value", "workers"), [(90, 5), (150, 4), (300, 2)])
def test_the_band_limits_what_the_backlog_wants(value: float, workers: int) -> None:
    # Ten slots are wanted; 8 workers may work while carbon is low, 4 in between, 2 while high.
    pool = Pool(0)
    for _ in range(3):
        pool.look(value, waiting=10)
    assert pool.current == workers


def test_a_pool_wakes_from_nothing_and_goes_back_to_nothing() -> None:
    pool = Pool(0)
    assert pool.look(300) == 0
    assert pool.look(300, soon=1) == 1
    assert pool.look(300, jobs=1, workers=1) == 1
    for _ in range(20):
        assert pool.look(300) == 1, "within the window"
    assert pool.look(300) == 0


def test_deadlines_override_the_limit() -> None:
    assert size(300, 2, waiting=12).replicas == 2
    scale = size(300, 2, waiting=12, pressing=7, jobs=4, workers=2)
    assert scale.replicas == ceil((7 + 4) / 2) == 6
    assert "7 of them must start now" in scale.reason
    assert "2 of 8 may work" in scale.reason


def test_deadlines_further_ahead_set_a_pace() -> None:
    scale = size(300, 2, waiting=12, pace=7, jobs=4, workers=2)
    assert scale.replicas == 4
    assert "deadlines come near, whatever the carbon" in scale.reason


def test_what_has_jobs_stays() -> None:
    memory = after(600, EMPTY)
    assert size(300, 8, memory).replicas == 7
    assert size(300, 8, memory, jobs=8, workers=8).replicas == 8, "one job each"
    assert size(300, 8, memory, jobs=15, workers=3).replicas == 8, "two slots each"


def test_it_grows_by_doubling_and_not_at_every_look() -> None:
    pool = Pool(1, msgspec.structs.replace(PARAMS, max=100, step=3))
    sizes = [pool.look(90, later=5 * SECOND, waiting=1000) for _ in range(13)]
    assert sizes == [4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64]


def test_it_shrinks_by_steps_to_the_most_that_was_wanted_in_the_window() -> None:
    pool = Pool(6)
    pool.look(90, waiting=12)
    pool.look(90, waiting=6)
    sizes = [pool.look(90, later=MINUTE) for _ in range(9)]
    assert sizes == [6, 6, 6, 6, 5, 4, 3, 2, 1]


def test_a_band_is_left_only_well_past_its_limit_and_after_its_dwell() -> None:
    pool = Pool(0)
    pool.look(210)
    band: list[Band | None] = []
    for value in (199, 185, 179, 205, 179, 90):
        pool.look(value, later=14 * MINUTE)
        band.append(pool.memory.band)
    # 180 is 10 % below the limit of 200; 205 comes 14 minutes after medium was entered.
    assert band == ["high", "high", "medium", "medium", "medium", "low"]


def test_a_signal_that_ends_is_held_then_no_limit() -> None:
    memory = ScalingMemory(band="high", band_since=NOW - HOUR)
    backlog = Backlog(waiting=100)
    expected: list[tuple[int, Band | None]] = [(0, "high"), (29, "high"), (31, None)]
    for minutes, band in expected:
        known = grid(300, NOW)
        at = NOW + minutes * MINUTE
        scale = decide(PARAMS, known, backlog, InFlight(), 2, at, memory)
        assert scale.band == band
        assert scale.replicas == (2 if band else 6)
        assert scale.memory.band_since == (NOW - HOUR if band else at)
    never = decide(PARAMS, GridState(), backlog, InFlight(), 2, NOW, EMPTY)
    assert (never.band, never.replicas) == (None, 6)
    assert "nothing is known of the carbon" in never.reason


def test_a_clock_that_was_set_back_blocks_nothing() -> None:
    future = NOW + 1000 * HOUR
    memory = ScalingMemory(
        band="high", band_since=future, up_at=future, down_at=future, wanted=[(future, 99)]
    )
    assert size(90, 1, memory, waiting=8).replicas == 4
    assert size(90, 6, memory).replicas == 5


def test_a_scaler_that_has_just_begun_takes_nothing_away() -> None:
    assert size(300, 7).replicas == 7


def test_the_least_counts_more_than_carbon() -> None:
    params = msgspec.structs.replace(PARAMS, min=3)
    assert decide(params, grid(300), Backlog(), InFlight(), 0, NOW, EMPTY).replicas == 3


def test_parameters_come_from_the_configuration_wall_time_by_the_clocks_speed() -> None:
    config = complete(
        Config(scaler=Scaler(window="10s", dwell="10s", pools={"eco": ScaledPool(max=9)}))
    )
    params = Params.of(config, "eco", 60.0, slots=3)
    assert (params.window_ms, params.dwell_ms, params.max, params.slots) == (600_000, 10_000, 9, 3)
    assert Params.of(config, "fast", 1.0).max == ScaledPool().max


# -- what holds always -------------------------------------------------------------------------

sizes = st.integers(0, 40)
times = st.integers(NOW - 2 * HOUR, NOW + HOUR)
bands = st.sampled_from([None, "low", "medium", "high"])


@st.composite
def params_of_any_kind(draw: Any) -> Params:
    shares = sorted(draw(st.lists(st.floats(0, 1), min_size=3, max_size=3)), reverse=True)
    largest = draw(st.integers(1, 30))
    return Params(
        slots=draw(st.integers(1, 5)),
        min=draw(st.integers(0, largest)),
        max=largest,
        low=shares[0],
        medium=shares[1],
        high=shares[2],
        leave=draw(st.floats(0, 0.5)),
        dwell_ms=draw(st.integers(0, HOUR)),
        hold_ms=draw(st.integers(0, HOUR)),
        window_ms=draw(st.integers(0, HOUR)),
        step=draw(st.integers(1, 5)),
        up_every_ms=draw(st.integers(0, MINUTE)),
        down_step=draw(st.integers(1, 5)),
        down_every_ms=draw(st.integers(0, MINUTE)),
        jobs_per_slot=draw(st.floats(0.5, 10)),
    )


@st.composite
def backlogs(draw: Any) -> Backlog:
    waiting, soon = draw(st.integers(0, 100)), draw(st.integers(0, 100))
    return Backlog(
        waiting=waiting,
        soon=soon,
        pressing=draw(st.integers(0, waiting)),
        pressing_soon=draw(st.integers(0, soon)),
        pace=draw(st.integers(0, waiting)),
    )


grids = st.builds(
    GridState,
    intensity_id=st.none() | st.just("5-0/0"),
    intensity=st.none() | st.floats(0, 1000),
    low=st.floats(50, 200),
    high=st.floats(200, 500),
    valid_until=times,
)
flights = st.builds(InFlight, jobs=st.integers(0, 100), workers=sizes)
memories = st.builds(
    ScalingMemory,
    band=bands,
    band_since=times,
    up_at=st.none() | times,
    down_at=st.none() | times,
    # As decisions leave them: later sizes are smaller.
    wanted=st.tuples(st.sets(times, max_size=5), st.sets(sizes, max_size=5)).map(
        lambda both: list(zip(sorted(both[0]), sorted(both[1], reverse=True), strict=False))
    ),
)


@given(params_of_any_kind(), grids, backlogs(), flights, sizes, memories)
def test_of_any_inputs(
    params: Params,
    known: GridState,
    backlog: Backlog,
    inside: InFlight,
    current: int,
    memory: ScalingMemory,
) -> None:
    scale = decide(params, known, backlog, inside, current, NOW, memory)
    change = scale.replicas - current
    # Nobody who has a job is taken away.
    assert scale.replicas >= min(current, scale.busy)
    assert scale.busy >= inside.workers
    assert scale.busy * params.slots >= inside.jobs
    # It grows to no more than is allowed and wanted, and never past the largest size.
    if change > 0:
        assert scale.replicas <= params.max
        assert scale.replicas <= max(min(scale.wanted, scale.limit), scale.pressed, params.min)
        assert change <= max(params.step, current)
    # It shrinks by steps, and never below the least size.
    assert change >= -params.down_step
    if change < 0:
        assert scale.replicas >= params.min
    # Deadlines are never held up by carbon, only by the step.
    if scale.pressed > current and memory.up_at is None:
        assert scale.replicas >= min(scale.pressed, params.max, current + params.step)
    assert (scale.reason != "") == (change != 0)
    # What it remembers is bounded and falling.
    falling = [workers for _, workers in scale.memory.wanted]
    assert falling == sorted(set(falling), reverse=True)


@given(params_of_any_kind(), grids, backlogs(), flights, sizes, memories)
def test_any_decision_can_be_recomputed_from_its_event(
    params: Params,
    known: GridState,
    backlog: Backlog,
    inside: InFlight,
    current: int,
    memory: ScalingMemory,
) -> None:
    scale = decide(params, known, backlog, inside, current, NOW, memory)
    event = PoolScaled(
        pool="eco",
        at=NOW,
        version=VERSION,
        params=msgspec.Raw(msgspec.json.encode(params)),
        actuator="dry-run",
        scaler="test",
        revision=1,
        grid=known,
        backlog=backlog,
        in_flight=inside,
        memory=memory,
        current=current,
        replicas=scale.replicas,
        band=scale.band,
        reason=scale.reason,
    )
    read = msgspec.json.decode(msgspec.json.encode(event), type=PoolScaled)
    assert recomputed(read) == scale
    with pytest.raises(ValueError, match="no known version"):
        recomputed(msgspec.structs.replace(read, version=99))


looks = st.lists(
    st.tuples(st.floats(20, 400), st.integers(0, 60), st.integers(1, 600)), min_size=2, max_size=60
)


@given(params_of_any_kind(), looks)
def test_over_time(params: Params, looks: list[tuple[float, int, int]]) -> None:
    """A band stays for its dwell; growth keeps its pace; the memory does not grow."""
    current, now, memory = 0, NOW, EMPTY
    band_at, grown_at = None, None
    for value, waiting, pause in looks:
        now += pause * SECOND
        known = GridState(intensity=value, low=100, high=200, valid_until=now)
        scale = decide(params, known, Backlog(waiting=waiting), InFlight(), current, now, memory)
        if scale.band != memory.band:
            assert band_at is None or now - band_at >= params.dwell_ms
            band_at = now
        if scale.replicas > current:
            assert grown_at is None or now - grown_at >= params.up_every_ms
            grown_at = now
        assert len(scale.memory.wanted) <= params.max + 1
        assert all(now - at <= params.window_ms for at, _ in scale.memory.wanted)
        current, memory = scale.replicas, scale.memory
