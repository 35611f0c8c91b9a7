"""The router in virtual time, on grids small enough to reckon by hand."""

from __future__ import annotations

import numpy as np
import pytest
from small_grids import FAST_ONLY, HOUR, NOW, config, job, run, spans, trace

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.router.policy import Defer
from carbon_orchestrator.simulation.engine import Setup, simulate
from carbon_orchestrator.simulation.grid import RecordedGrid

DIP = trace([300, 300, 200, 100, 100, 300, 300, 300, 300, 300, 300, 300])


def test_run_now_waits_for_nothing() -> None:
    (fate,) = run([job(0.5, 2, within=9)], DIP, config("run_now"))
    assert spans(fate) == [(0.5, 2.5)]
    assert (fate.waited_ms, fate.missed) == (0, False)


def test_the_greenest_window_of_two_hours() -> None:
    (fate,) = run([job(0.5, 2, within=9)], DIP, config("greenest_window"))
    assert spans(fate) == [(3, 5)]
    assert fate.waited_ms == 2.5 * HOUR


def test_a_window_may_begin_between_two_events() -> None:
    """Half an hour at 200 and one at 100 is the best that 1.5 hours before hour 4 can have."""
    (fate,) = run([job(0, 1.5, within=4)], DIP, config("greenest_window"))
    assert spans(fate) == [(2.5, 4)]


def test_a_job_runs_in_part_of_an_hour_where_it_needs_no_more() -> None:
    """All of the hour at 100, and half of one at 200 just before it is over."""
    comb = trace([300, 200, 300, 100, 300, 300])
    (fate,) = run([job(0, 1.5, within=5, interruptible=True)], comb, config("greenest_slots"))
    assert spans(fate) == [(1.5, 2), (3, 4)]


def test_a_deadline_is_kept_however_green_it_gets() -> None:
    (fate,) = run([job(0, 1, within=2)], DIP, config("greenest_window"))
    assert fate.finished is not None
    assert fate.finished <= NOW + 2 * HOUR
    assert not fate.missed


def test_an_interruptible_job_runs_in_the_green_hours_only() -> None:
    comb = trace([100, 500, 100, 500, 100, 500, 500, 500])
    jobs = [job(0, 3, within=6, interruptible=True)]
    (fate,) = run(jobs, comb, config("greenest_slots"))
    assert spans(fate) == [(0, 1), (2, 3), (4, 5)]
    assert fate.waited_ms == 2 * HOUR
    # Run, pause, run, pause, run.
    kinds = [isinstance(made.answer, Defer) for made in fate.decisions]
    assert kinds == [False, True, False, True, False]
    assert [part.energy_mj for part in fate.segments] == [HOUR * 1000] * 3


def test_resuming_costs_running_time_and_energy() -> None:
    comb = trace([100, 5000, 5000, 100, 150, 5000, 5000, 5000, 5000])
    jobs = [job(0, 2, within=8, interruptible=True)]
    (fate,) = run(jobs, comb, config("greenest_slots", resume=360))
    assert spans(fate) == [(0, 1), (3, pytest.approx(4.1))]
    assert sum(part.energy_mj for part in fate.segments) == 2.1 * HOUR * 1000


def test_the_slower_pool_is_taken_where_it_saves() -> None:
    settings = config("greenest_window", slowdown=2.0, energy=0.5)
    both = {"local": ("fast", "eco")}
    wide, narrow = job(0, 1, within=10), job(0, 1, within=1.5, number=1)
    eco, fast = run([wide, narrow], DIP, settings, pools=both)
    assert [(part.pool, part.energy_mj) for part in eco.segments] == [("eco", HOUR * 500)]
    assert spans(eco) == [(3, 5)]
    assert [part.pool for part in fast.segments] == ["fast"]


def test_the_greenest_hour_is_not_given_to_more_than_there_is_room_for() -> None:
    jobs = [job(0, 1, within=6, number=number) for number in range(4)]
    slots = {("fast", "local"): 1}
    fates = run(jobs, DIP, config("greenest_window"), slots=slots)
    starts = sorted(spans(fate)[0][0] for fate in fates)
    assert starts == [0, 2, 3, 4]
    assert not any(fate.missed for fate in fates)


def test_without_room_jobs_stand_in_line() -> None:
    jobs = [job(0, 1, number=number) for number in range(3)]
    fates = run(jobs, DIP, config("run_now"), slots={("fast", "local"): 2})
    assert [spans(fate) for fate in fates] == [[(0, 1)], [(0, 1)], [(1, 2)]]
    assert fates[2].waited_ms == HOUR


def test_urgent_jobs_pass_others_in_the_line() -> None:
    jobs = [job(0, 1, number=0), job(0.1, 1, number=1), job(0.2, 1, number=2, urgency="urgent")]
    fates = run(jobs, DIP, config("run_now"), slots={("fast", "local"): 1})
    assert [spans(fate)[0][0] for fate in fates] == [0, 2, 1]


def test_lengths_are_learned_from_jobs_that_ended() -> None:
    """Unknown, a job is taken for a minute's; after five of six hours, for one of six hours, so
    the last one begins where six hours are greenest rather than one minute."""
    hours = trace([300] * 14 + [10] + [300] * 3 + [100] * 6 + [300] * 12)
    jobs = [job(0, 6, number=n, known=False, urgency="urgent") for n in range(5)]
    jobs.append(job(12, 6, number=5, known=False, max_wait=12))
    unlearned = run(jobs, hours, config("greenest_window"))
    learned = run(jobs, hours, config("greenest_window"), learn=True)
    assert spans(unlearned[5])[0][0] == pytest.approx(14, abs=0.05)
    assert spans(learned[5])[0][0] >= 17


def test_a_job_without_deadline_waits_as_long_as_it_may() -> None:
    down = trace([300 - n for n in range(40)])
    jobs = [job(0, 1, max_wait=5), job(0, 1, number=1, max_wait=7)]
    fates = run(jobs, down, config("greenest_window"))
    assert [spans(fate)[0][0] for fate in fates] == [5, 7]


def test_threshold_waits_for_the_green_band() -> None:
    hours = trace([200, 220, 210, 230, 190, 205, 215, 225, 300, 300, 100, 100, 100])
    (fate,) = run([job(8, 1, within=9)], hours, config("threshold"))
    assert spans(fate) == [(10, 11)]


def recorded(late_ms: int = 0) -> list[tuple[int, IntensityObserved]]:
    """DIP as a running system received it, each with a perfect forecast."""
    events = []
    for number, value in enumerate(DIP.values.tolist()):
        ahead = DIP.values[number + 1 :].tolist()
        points = [(NOW + (number + 1 + n) * HOUR, each) for n, each in enumerate(ahead)]
        event = IntensityObserved(
            zone="local",
            time=NOW + number * HOUR,
            intensity=value,
            source="test",
            resolution_ms=HOUR,
            forecast=points,
        )
        events.append((event.time + late_ms, event))
    return events


@pytest.mark.parametrize("policy", ["run_now", "threshold", "greenest_window", "greenest_slots"])
def test_recorded_events_lead_to_the_same_decisions_as_the_trace(policy: str) -> None:
    settings = config(policy)  # type: ignore[arg-type]
    jobs = [
        job(at, hours, within, number=number, interruptible=number % 2 == 0)
        for number, (at, hours, within) in enumerate(
            [(0, 1, 5), (0.25, 2, 8), (1.5, 3, 10), (3.1, 0.5, 4), (0.7, 1.5, 6)]
        )
    ]
    grid = RecordedGrid("local", recorded(), Bands.of(settings.threshold))
    setup = Setup(config=settings, pools=FAST_ONLY, ask_always=True)
    replayed = simulate(jobs, [grid], setup)
    simulated = run(jobs, DIP, settings, ask_always=True)
    assert [fate.decisions for fate in replayed] == [fate.decisions for fate in simulated]
    assert [spans(fate) for fate in replayed] == [spans(fate) for fate in simulated]


def test_what_was_observed_late_is_known_late() -> None:
    settings = config("greenest_window")
    grid = RecordedGrid("local", recorded(late_ms=60_000), Bands.of(settings.threshold))
    (fate,) = simulate([job(0.5, 2, within=9)], [grid], Setup(config=settings, pools=FAST_ONLY))
    assert fate.segments[0].start == NOW + 3 * HOUR + 60_000


def test_a_job_may_be_seen_after_it_was_submitted() -> None:
    late = job(0.5, 1, within=9)._replace(seen_at=NOW + HOUR)
    (fate,) = run([late], DIP, config("run_now"))
    assert spans(fate) == [(1, 2)]
    assert fate.waited_ms == HOUR / 2


def test_without_any_signal_jobs_run_at_once() -> None:
    settings = config("greenest_slots")
    grid = RecordedGrid("local", [], Bands.of(settings.threshold))
    setup = Setup(config=settings)
    (fate,) = simulate([job(0, 1, within=20, interruptible=True)], [grid], setup)
    assert spans(fate) == [(0, 1)]


def test_two_zones_and_the_greener_one() -> None:
    settings = config("greenest_window")
    events = recorded()
    for number in range(len(DIP.values)):
        event = IntensityObserved(
            zone="north",
            time=NOW + number * HOUR,
            intensity=50.0,
            source="test",
            resolution_ms=HOUR,
        )
        events.append((event.time, event))
    import msgspec

    from carbon_orchestrator.config import ZoneConfig

    settings = msgspec.structs.replace(settings, zones={"north": ZoneConfig(signal=["x"])})
    grids = [RecordedGrid(zone, events, Bands()) for zone in ("local", "north")]
    both = job(0, 1, within=9)
    both = both._replace(spec=msgspec.structs.replace(both.spec, zones=["local", "north"]))
    home = job(0, 1, within=9, number=1)
    fates = simulate([both, home], grids, Setup(config=settings))
    assert [fate.segments[0].zone for fate in fates] == ["north", "local"]
    assert spans(fates[0]) == [(0, 1)]


def test_progress_is_told() -> None:
    told: list[float] = []
    hours = trace(np.full(1200, 100.0).tolist())
    from carbon_orchestrator.simulation import forecasts
    from carbon_orchestrator.simulation.grid import TraceGrid

    grid = TraceGrid(hours, forecasts.perfect(hours, 24), Bands(), points=False)
    jobs = [job(0, 1, within=2), job(1100, 1, within=2, number=1)]
    simulate(jobs, [grid], Setup(config=config("greenest_window")), told.append)
    assert told == sorted(told)
    assert told
    assert 0 <= told[0] <= told[-1] <= 1
