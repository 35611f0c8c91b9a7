"""Jobs from files and made up; traces on their raster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_grids import HOUR, NOW, data

from carbon_orchestrator.signal.provider import Point, SignalError
from carbon_orchestrator.simulation.job_files import read_jobs
from carbon_orchestrator.simulation.traces import Trace, read_values
from carbon_orchestrator.simulation.workload import Job, Options, WorkloadError, generated

OPTIONS = Options(start=NOW)


def read(tmp_path: Path, text: str, options: Options = OPTIONS) -> list[Job]:
    path = tmp_path / "jobs.csv"
    path.write_text(text)
    return read_jobs(path, options)


def test_our_own_format(tmp_path: Path) -> None:
    text = (
        "id,submitted,length,deadline,max_wait,urgency,type,interruptible,watts,energy_wh\n"
        "b,90m,2h,6h,,flexible,training,yes,200,\n"
        "a,2020-01-01T13:00:00,30m,,4h,urgent,,,,50\n"
        "c,2h,1h,,,,,,,\n"
    )
    a, b, c = read(tmp_path, text)
    assert (a.spec.job_id, a.spec.urgency, a.spec.interruptible) == ("a", "urgent", False)
    assert a.spec.submitted_at == NOW + HOUR
    assert a.spec.deadline == NOW + 5.5 * HOUR  # so long it may wait, and then run
    assert a.energy_mj == 50 * 3_600_000
    assert (b.spec.type, b.spec.interruptible) == ("training", True)
    assert (b.length_ms, b.energy_mj) == (2 * HOUR, 200 * 2 * HOUR)
    assert b.spec.deadline == b.spec.submitted_at + 6 * HOUR
    assert b.spec.expected_duration == 7200
    assert c.spec.deadline == c.spec.submitted_at + 1.5 * HOUR  # as a normal job's in the router


def test_unknown_lengths_are_not_stated(tmp_path: Path) -> None:
    options = OPTIONS._replace(known=False)
    (each,) = read(tmp_path, "submitted,length,max_wait\n0,1h,6h\n", options)
    assert each.spec.expected_duration is None
    assert (each.spec.deadline, each.max_wait_ms) == (None, 6 * HOUR)


def test_lets_wait_awhile(tmp_path: Path) -> None:
    text = (
        "job_id,arrival_slot,arrival,duration_slots,flex_slots_next_workday,flex_slots_semi_weekly\n"
        "7,19,2020-01-01 09:30:00,106,0,133\n"
    )
    (each,) = read(tmp_path, text, OPTIONS._replace(rule="semi_weekly", interruptible=True))
    assert each.spec.submitted_at == 1_577_836_800_000 + 19 * HOUR // 2
    assert each.length_ms == 53 * HOUR
    assert each.spec.deadline == each.spec.submitted_at + (106 + 133 + 1) * HOUR // 2
    assert each.spec.interruptible
    with pytest.raises(WorkloadError, match=r"no deadline rule 'x'; give --deadline-rule next_w"):
        read(tmp_path, text, OPTIONS._replace(rule="x"))


def test_gaia(tmp_path: Path) -> None:
    text = "arrival_time,length,cpus\n10.0,7199.0,2\n20,7200,1\n"
    short, long = read(tmp_path, text)
    assert short.spec.submitted_at == NOW + 10_000
    assert short.energy_mj == 2 * 7_199_000
    assert (short.spec.type, long.spec.type) == ("short", "long")
    assert short.spec.deadline == NOW + 10_000 + 7_199_000 + 6 * HOUR
    assert long.spec.deadline == NOW + 20_000 + 7_200_000 + 24 * HOUR
    (other, _) = read(tmp_path, text, OPTIONS._replace(rule="1h/2h", known=False))
    assert (other.max_wait_ms, other.spec.deadline) == (HOUR, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("submitted,length\n0,1h\n0,soon\n", r"jobs.csv, line 3: 'soon' is not a duration"),
        ("submitted,length\n0,0\n", "line 2: length must be above 0"),
        ("submitted,length\nyester-day,1h\n", "line 2: .*yester-day"),
        ("submitted,length,urgency\n0,1h,low\n", "line 2: urgency 'low' must be one of urgent"),
        ("submitted,length,deadline\n2h,1h,2020-01-01\n", "line 2: the deadline must be after"),
        ("submitted,length,interruptible\n0,1h,x\n", "line 2: interruptible is true or false"),
        ("submitted,length,watts\n0,1h,-1\n", "line 2: watts '-1' is no number of 0 or more"),
        ("arrival_time,length,cpus\n0,,1\n", "line 2: length '' is no number"),
        ("arrival_slot,duration_slots,flex_slots_next_workday\n1,1.5,0\n", "no whole number"),
        ("arrival_slot,duration_slots,flex_slots_next_workday\n1\n", "line 2: duration_slots ''"),
        ("when,what\n1,2\n", r"no known format; it needs submitted and length \(it has: what"),
        ("", "it has: none"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(WorkloadError, match=says):
        read(tmp_path, text)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="no such file; give --jobs FILE"):
        read_jobs(tmp_path / "none.csv", OPTIONS)


def test_generated_jobs_are_the_same_for_a_seed_and_as_described() -> None:
    end = NOW + 365 * 24 * HOUR
    jobs = generated(4000, NOW, end, OPTIONS)
    assert jobs == generated(4000, NOW, end, OPTIONS)
    assert jobs != generated(4000, NOW, end, OPTIONS, seed=1)
    urgent = sum(each.spec.urgency == "urgent" for each in jobs) / 4000
    assert urgent == pytest.approx(0.2, abs=0.03)
    assert sum(each.spec.interruptible for each in jobs) / 4000 == pytest.approx(0.2, abs=0.03)
    assert np.median([each.length_ms for each in jobs]) == pytest.approx(HOUR, rel=0.1)
    assert all(NOW <= each.spec.submitted_at < end for each in jobs)
    assert all(each.feasible for each in jobs)
    assert [each.spec.submitted_at for each in jobs] == sorted(
        each.spec.submitted_at for each in jobs
    )
    with pytest.raises(WorkloadError, match="three days"):
        generated(1, NOW, NOW + 24 * HOUR, OPTIONS)


def test_a_trace_is_sampled_and_its_gaps_bridged() -> None:
    quarter = HOUR // 4
    points = [Point(NOW + n * quarter, float(n)) for n in range(12) if n not in (4, 5)]
    hourly = Trace.of(points, HOUR)
    assert hourly.values.tolist() == [0, 3, 8]
    assert (hourly.start, hourly.end, hourly.step_ms) == (NOW, NOW + 3 * HOUR, HOUR)
    assert Trace.of(points).step_ms == quarter
    assert hourly.since(NOW + HOUR).values.tolist() == [3, 8]
    assert hourly.series.at(NOW + HOUR + 1) == 3
    with pytest.raises(SignalError, match="two values"):
        Trace.of(points[:1])


def test_a_file_of_values_without_times(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    path.write_text("a,b\n1,10\n2,\n3,30\n")
    read = read_values(path, "b", NOW, HOUR, "local")
    assert (read.start, read.values.tolist()) == (NOW, [10, 10, 30])
    assert read_values(path, None, NOW, HOUR, "local").values.tolist() == [1, 2, 3]
    assert read_values(path, "2", NOW, HOUR, "local").values.tolist() == [10, 10, 30]
    with pytest.raises(SignalError, match="no column 'c'; it has a, b"):
        read_values(path, "c", NOW, HOUR, "local")
    path.write_text("1\n2\nx\n")
    with pytest.raises(SignalError, match="line 3: 'x' is no intensity"):
        read_values(path, None, NOW, HOUR, "local")


def test_the_files_of_the_papers() -> None:
    folder = data()
    lwa = read_jobs(folder / "lwa_jobs.csv", OPTIONS)
    assert (len(lwa), sum(each.length_ms for each in lwa)) == (3387, 311_252 * HOUR // 2)
    assert len(read_jobs(folder / "pai_1k.csv", OPTIONS)) == 1000
