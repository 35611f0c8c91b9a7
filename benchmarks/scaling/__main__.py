"""The command line of scaling; exit status 1 if our way interrupts a job, or has more late than
the largest pool.

    python -m benchmarks.scaling --data ../shared/data [--carbon FILE[:COLUMN]] [--days 365]
        [--jobs-a-day 60] [--policy threshold] [--seed 0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.carbon import half_hours
from benchmarks.scaling.jobs import jobs_of, recorded
from benchmarks.scaling.pool import HOUR, Sums
from benchmarks.scaling.year import MINUTE, WAYS, Year, prepared, run
from carbon_orchestrator.config import PolicyName
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.simulation.workload import WorkloadError

TRACES = {"DE 2020": "lwa_ger_ci.csv", "GB 2020": "lwa_gb_ci.csv", "ES 2022": "ES_2022_hourly.csv"}
TITLES = (
    *("grid", "pools", "CO2", "worker h (idle)", "flaps/day", "above cap (deadlines, idle)"),
    *("hasty wait p50, p95, p99", "other wait p50, p95, p99", "late", "interrupted"),
)


class Workload(NamedTuple):
    data: Path
    days: int
    a_day: float
    policy: PolicyName
    seed: int


class Row(NamedTuple):
    grid: str
    way: str
    jobs: int
    days: float
    sums: Sums


def year(workload: Workload, path: Path) -> Year:
    trace = half_hours(path)
    steps = workload.days * 24 * HOUR // trace.step_ms
    trace = msgspec.structs.replace(trace, values=trace.values[:steps])
    known = recorded(workload.data)
    jobs = jobs_of(known, trace.start, trace.end, workload.a_day, workload.seed)
    return prepared(trace, jobs, workload.policy)


def row(task: tuple[str, Year, str], seed: int) -> Row:
    grid, prepared_year, way = task
    days = (prepared_year.trace.end - prepared_year.trace.start) / HOUR / 24
    return Row(grid, way, prepared_year.jobs, days, run(prepared_year, way, seed))


def cells(row: Row, base: Row) -> list[str]:
    sums, pool_ms = row.sums, len(POOLS) * row.days * 24 * HOUR
    above = [sums.above.total(), sums.above["deadlines"], sums.above["idle"]]
    whole, deadlines, idle = (f"{100 * each / pool_ms:.1f}" for each in above)
    return [
        row.grid,
        row.way,
        f"{100 * sums.emissions_ug / base.sums.emissions_ug:.1f} %",
        f"{sums.worker_ms / HOUR:,.0f} ({sums.idle_ms / HOUR:,.0f})",
        f"{sums.flaps / row.days:.1f}",
        f"{whole} % ({deadlines}, {idle})",
        waits([*sums.waits["urgent"], *sums.waits["due"]]),
        waits(sums.waits[""]),
        f"{sums.late:,} of {row.jobs:,}",
        f"{sums.interrupted:,}",
    ]


def waits(all_of_them: Sequence[int]) -> str:
    ordered = sorted(all_of_them)
    ranks = [min(int(len(ordered) * share), len(ordered) - 1) for share in (0.5, 0.95, 0.99)]
    return ", ".join(f"{ordered[rank] / MINUTE:,.0f}" for rank in ranks) + " min"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where traces and workloads lie")
    parser.add_argument("--carbon", type=Path, action="append", help="another trace, FILE[:COLUMN]")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--jobs-a-day", type=float, default=60.0)
    parser.add_argument("--policy", choices=("threshold", "run_now"), default="threshold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    paths = {name: asked.data / file for name, file in TRACES.items()}
    if asked.carbon:
        paths = {path.name.partition(".")[0]: path for path in asked.carbon}
    workload = Workload(asked.data, asked.days, asked.jobs_a_day, asked.policy, asked.seed)
    try:
        with ProcessPoolExecutor(asked.workers) as workers:
            years = list(workers.map(partial(year, workload), paths.values()))
            tasks = [
                (name, each, way) for name, each in zip(paths, years, strict=True) for way in WAYS
            ]
            rows = list(workers.map(partial(row, seed=asked.seed), tasks))
    except (SignalError, WorkloadError) as error:
        print(error, file=sys.stderr)
        return 2
    bases = {each.grid: each for each in reversed(rows)}
    table = [cells(each, bases[each.grid]) for each in rows]
    for line in (TITLES, ["---"] * len(TITLES), *table):
        print(f"| {' | '.join(line)} |")
    if asked.json:
        asked.json.write_text(json.dumps([dict(zip(TITLES, each, strict=True)) for each in table]))
    ours = [each for each in rows if each.way == "ours"]
    late = [each.sums.late > bases[each.grid].sums.late for each in ours]
    return int(any(late) or any(each.sums.interrupted for each in ours))


if __name__ == "__main__":
    sys.exit(main())
