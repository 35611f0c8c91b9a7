"""What the planner saves on the workloads of two papers, with and without a look at the future.

    python -m benchmarks.carbon --data ../shared/data [--seeds 10] [--carbon FILE[:COLUMN]]
        [--foresight HOURS] [--json FILE]

Let's Wait Awhile (Wiesner et al., Middleware 2021), scenario II: 3387 jobs of machine learning
over 2020, by the paper's definitions (lwa_table.json). GAIA (ASPLOS 2024): 1000 jobs of Alibaba's
PAI in South Australia, 2022 (gaia_table.json). Each figure stands beside the published one and
the clairvoyant optimum. "own" knows nothing of the future: it is the project's own forecaster.
`--carbon` runs Let's Wait Awhile's jobs over another trace instead (repeat it for more); where that
is not of 2020 they are moved by whole weeks to begin eleven days after its start, as in the others.
`--foresight` adds what own would reach if it knew the next hours exactly: a bound on what better
forecasts of these hours could give.

The status is 1 if a deadline that could be met was missed, or if a run emitted more than running
everything at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import msgspec
import numpy as np

from carbon_orchestrator.config import Config, PolicyName, ThresholdConfig, complete
from carbon_orchestrator.signal.csv_trace import CsvTrace, path_and_column
from carbon_orchestrator.simulation import forecasts
from carbon_orchestrator.simulation.compare import compare, fitting, idealise, span
from carbon_orchestrator.simulation.engine import Setup
from carbon_orchestrator.simulation.forecasts import Forecasts, Made, Span
from carbon_orchestrator.simulation.job_files import read_jobs
from carbon_orchestrator.simulation.traces import Trace, read_values
from carbon_orchestrator.simulation.workload import HOUR_MS, Job, Options

SLOT_MS = HOUR_MS // 2
WEEK_MS, BEFORE_MS = 168 * HOUR_MS, 11 * 24 * HOUR_MS
YEAR_2020, YEAR_2022 = 1_577_836_800_000, 1_640_995_200_000
FOREVER_MS = 253_339_228_800_000
REGIONS = {"ger": "lwa_ger_ci.csv", "gb": "lwa_gb_ci.csv"}
RULES = ("next_workday", "semi_weekly")
KINDS = {False: "non_interruptible", True: "interruptible"}
GAIA_PADDING, GAIA_FIRST = 17_544, 7_000  # rows


class Task(NamedTuple):
    """One forecast of one region: all four settings with it."""

    data: Path
    region: str
    carbon: Path
    error: float | None  # None: own
    seed: int = 0
    foresight: int = 0  # hours that own is told

    @property
    def forecast(self) -> str:
        if self.error is not None:
            return f"{100 * self.error:g} %"
        return f"own, {self.foresight} h told" if self.foresight else "own"


class Figure(NamedTuple):
    """One setting's: saving and clairvoyant optimum in %, by the paper's baseline; emissions as a
    share of running everything at once."""

    region: str
    setting: str
    forecast: str
    saved: float
    optimum: float
    of_run_now: float
    missed: int


def config() -> Config:
    # Nothing here is decided by bands.
    bands = ThresholdConfig(mode="absolute", low=1, high=2, window=0)
    return idealise(complete(Config(threshold=bands)))


SETUP = Setup(config=config(), pools={"local": ("fast",)})


def policy(interruptible: bool) -> PolicyName:
    return "greenest_slots" if interruptible else "greenest_window"


def half_hours(path: Path) -> Trace:
    """`path` may end in :COLUMN."""
    read = CsvTrace.read(*path_and_column(str(path)))
    return Trace.of(asyncio.run(read.history(0, FOREVER_MS)), SLOT_MS)


# -- Let's Wait Awhile -----------------------------------------------------------------------------


def lwa(task: Task) -> list[Figure]:
    trace = _over_2020(half_hours(task.carbon))
    settings = {(rule, kind): _jobs(task, trace, rule, kind) for rule in RULES for kind in KINDS}
    everyone = [job for jobs in settings.values() for job in jobs]
    ahead = _forecasts(task, trace, span(everyone, trace, SETUP.config))
    figures = []
    for (rule, interruptible), jobs in settings.items():
        (outcome,) = compare(jobs, trace, ahead, SETUP, [policy(interruptible)]).outcomes
        # The paper's baseline may begin one slot later, too.
        base = sum(_baseline_ug(job, trace) for job in jobs)
        figures.append(
            Figure(
                task.region,
                f"{rule}|{KINDS[interruptible]}",
                task.forecast,
                100 * (1 - outcome.emissions_ug / base),
                100 * (1 - outcome.optimum_ug / base),
                outcome.emissions_ug / outcome.run_now_ug,
                outcome.missed,
            )
        )
    return figures


def _jobs(task: Task, trace: Trace, rule: str, interruptible: bool) -> list[Job]:
    options = Options(interruptible=interruptible, rule=rule)
    return fitting(read_jobs(task.data / "lwa_jobs.csv", options), trace, SETUP.config)


def _over_2020(trace: Trace) -> Trace:
    """The trace, if it is of another year moved by whole weeks to where those of the paper are."""
    if trace.start <= YEAR_2020 < trace.end:
        return trace
    weeks = (YEAR_2020 - BEFORE_MS - trace.start) // WEEK_MS
    return msgspec.structs.replace(trace, start=trace.start + weeks * WEEK_MS)


def _forecasts(task: Task, trace: Trace, needed: Span) -> Forecasts:
    if task.error is None:
        return _told(forecasts.own(trace, needed), trace, task.foresight)
    if task.error == 0:
        return forecasts.perfect(trace, needed.steps)
    first = trace.index(YEAR_2020)
    noisy = forecasts.noisy(trace, task.error, task.seed, first)
    return forecasts.corrected(trace, noisy, needed, first=first)


def _told(own: Made, trace: Trace, hours: int) -> Made:
    """`own`, had it been told the next hours; from its error at their end it goes back to what
    it said before within about 30 h."""
    steps = hours * HOUR_MS // SLOT_MS
    if not steps:
        return own
    rows = own.rows.copy()
    back = np.exp(-np.arange(1, rows.shape[1] - steps + 1) * SLOT_MS / HOUR_MS / 30)
    for number, row in enumerate(rows, own.first):
        true = trace.values[number + 1 : number + 1 + steps]
        gap = true[-1] - row[len(true) - 1] if len(true) else 0.0
        row[: len(true)] = true
        row[steps:] += gap * back
    return Made(own.first, rows)


def _baseline_ug(job: Job, trace: Trace) -> float:
    first, count = trace.index(job.spec.submitted_at), job.length_ms // SLOT_MS
    slots = min(trace.values[n : n + count].sum() for n in (first, first + 1))
    return float(slots) * job.energy_mj / count / 3600


def lwa_rows(figures: Sequence[Figure], table: dict[str, Any]) -> Iterator[list[str]]:
    """One row a region, setting and forecast, the mean of its seeds."""
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for each in figures:
        groups.setdefault((each.region, each.setting, each.forecast), []).append(each)
    for (region, setting, forecast), group in groups.items():
        saved, optimum = fmean(each.saved for each in group), group[0].optimum
        published = ""
        found = table.get(region, {}).get("configs", {}).get(setting, {})
        for error in ("0", "0.05", "0.1"):
            if forecast == f"{100 * float(error):g} %" and found:
                known = found[f"saving_pct_error_{error}"]
                published = f"{known:.2f} % ({known / found['saving_pct_error_0']:.4f})"
        yield [
            region,
            setting.replace("|", ", ").replace("_", " "),
            forecast,
            f"{saved:.2f} % ({saved / optimum:.4f})",
            published,
            f"{optimum:.2f} %",
            f"{max(each.of_run_now for each in group):.4f}",
            str(sum(each.missed for each in group)),
        ]


# -- GAIA ------------------------------------------------------------------------------------------


class Gaia(NamedTuple):
    """A setting, and which figure of the table it is held against."""

    name: str
    interruptible: bool
    known: bool
    perfect: bool
    published: str


GAIA = (
    Gaia("interruptible, lengths known", True, True, True, "WaitAWhile"),
    Gaia("interruptible, lengths known", True, True, False, "WaitAWhile"),
    Gaia("non interruptible, lengths known", False, True, True, "Lowest-Window"),
    Gaia("non interruptible, lengths known", False, True, False, "Lowest-Window"),
    Gaia("non interruptible, lengths learned", False, False, False, "Lowest-Window"),
)


def gaia(data: Path) -> Iterator[list[str]]:
    path = data / "AU-SA.reconstructed_2022_padded.csv.gz"
    padded = read_values(path, None, YEAR_2022 - GAIA_PADDING * HOUR_MS, HOUR_MS, "local")
    trace = padded.since(YEAR_2022)
    table = json.loads((data / "gaia_table.json").read_text())
    published = table["normalized_carbon_published_notebook"]
    for setting in GAIA:
        options = Options(setting.known, setting.interruptible, start=trace.time(GAIA_FIRST))
        jobs = read_jobs(data / "pai_1k.csv", options)
        needed = span(jobs, trace, SETUP.config)
        ahead: Forecasts = forecasts.perfect(trace, needed.steps)
        if not setting.perfect:
            ahead = forecasts.own(trace, needed)
        setup = msgspec.structs.replace(SETUP, learn=not setting.known)
        compared = compare(jobs, trace, ahead, setup, [policy(setting.interruptible)])
        (outcome,) = compared.outcomes
        share = outcome.emissions_ug / outcome.run_now_ug
        yield [
            "AU-SA",
            setting.name,
            "0 %" if setting.perfect else "own",
            f"{share:.4f} ({outcome.of_optimum or 0:.4f})",
            f"{published[setting.published]:.4f}",
            f"{outcome.optimum_ug / outcome.run_now_ug:.4f}",
            f"{share:.4f}",
            str(outcome.missed),
        ]


# -- the table -------------------------------------------------------------------------------------

TITLES = (
    *("trace", "setting", "error", "ours (of optimum)", "published", "optimum"),
    *("worst, of run-now", "missed"),
)


def tasks(data: Path, regions: dict[str, Path], seeds: int, foresight: list[int]) -> list[Task]:
    noisy = ((0.0, 1), (0.05, seeds), (0.1, seeds))
    return [
        task
        for region, path in regions.items()
        for task in (
            *(Task(data, region, path, error, seed) for error, n in noisy for seed in range(n)),
            *(Task(data, region, path, None, 0, hours) for hours in (0, *foresight)),
        )
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--carbon", type=Path, action="append", help="another trace")
    parser.add_argument("--foresight", type=int, action="append", default=[], metavar="HOURS")
    parser.add_argument("--seeds", type=int, default=10, help="noisy forecasts an error, up to 10")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    regions = {name: arguments.data / file for name, file in REGIONS.items()}
    if arguments.carbon:
        regions = {path.name.partition(".")[0]: path for path in arguments.carbon}
    figures: list[Figure] = []
    with ProcessPoolExecutor(arguments.workers) as workers:
        wanted = tasks(arguments.data, regions, arguments.seeds, arguments.foresight)
        for number, found in enumerate(workers.map(lwa, wanted), 1):
            figures += found
            print(f"\r{number}/{len(wanted)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    table = json.loads((arguments.data / "lwa_table.json").read_text())["scenario_II_ml_project"]
    rows = list(lwa_rows(figures, table))
    if not arguments.carbon:
        rows += gaia(arguments.data)
    for row in (TITLES, ["---"] * len(TITLES), *rows):
        print(f"| {' | '.join(row)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps([dict(zip(TITLES, row, strict=True)) for row in rows]))
    return int(any(float(row[-2]) > 1 or row[-1] != "0" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
