"""`carbon-orchestrator simulate`: the router's decisions over a recorded grid, in no time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import anyio
from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.cli.output import Column, Json
from carbon_orchestrator.cli.progress import progress
from carbon_orchestrator.cli.quantities import duration, mass
from carbon_orchestrator.cli.roles import ConfigFile
from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.config import PolicyName, load
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import POOLS, Pool

if TYPE_CHECKING:
    from carbon_orchestrator.simulation.compare import Comparison, Progress
    from carbon_orchestrator.simulation.forecasts import Forecasts, Span, Wish
    from carbon_orchestrator.simulation.results import Outcome
    from carbon_orchestrator.simulation.traces import Trace
    from carbon_orchestrator.simulation.workload import Job, Options

_POLICIES: tuple[PolicyName, ...] = ("run_now", "threshold", "greenest_window", "greenest_slots")
assert set(_POLICIES) == set(get_args(PolicyName))
_FOREVER_MS = 253_339_228_800_000
COLUMNS = (
    Column("policy"),
    Column("emitted", right=True),
    Column("saved", right=True),
    Column("of optimum", right=True),
    Column("mean wait", right=True),
    Column("p95 wait", right=True),
    Column("missed", right=True),
    Column("on eco", right=True),
    Column("pauses", right=True),
)


def simulate(
    *,
    jobs: str,
    carbon: str,
    policy: Annotated[
        list[PolicyName] | None, Parameter(negative="", help="may be repeated; default: all")
    ] = None,
    forecast: Annotated[
        str, Parameter(help="perfect, own, noise:ERROR[:SEED] or column:NAME")
    ] = "perfect",
    raw_forecast: Annotated[
        bool, Parameter(negative="", help="use noise and column as they are, not corrected")
    ] = False,
    capacity: Annotated[
        str | None, Parameter(help="jobs that pools run at once: fast=10,eco=10; default: all")
    ] = None,
    pools: Annotated[str, Parameter(help="pools that there are")] = "fast,eco",
    deadline_rule: Annotated[
        str | None, Parameter(help="next_workday, semi_weekly (LWA); SHORT/LONG wait (GAIA)")
    ] = None,
    lengths: Annotated[
        Literal["known", "learned"], Parameter(help="stated at submission, or learned per type")
    ] = "known",
    interruptible: Annotated[
        bool, Parameter(negative="", help="jobs whose file does not say may be suspended")
    ] = False,
    watts: Annotated[float, Parameter(help="power of jobs whose file does not say")] = 100.0,
    idealised: Annotated[
        bool,
        Parameter(negative="", help="no margin, no cost of resuming, no least saving; equal pools"),
    ] = False,
    carbon_start: Annotated[
        str | None, Parameter(help="time of the first value, for a file without times")
    ] = None,
    carbon_step: Annotated[
        str | None, Parameter(help="time between values; finer ones are sampled")
    ] = None,
    jobs_start: Annotated[
        str | None, Parameter(help="what times without a date count from; default: as carbon")
    ] = None,
    seed: Annotated[int, Parameter(help="of generated jobs")] = 0,
    plot: Annotated[Path | None, Parameter(help="draw a picture: .svg or .png")] = None,
    csv: Annotated[Path | None, Parameter(help="write a row a policy and job")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Simulate policies over a recorded grid.

    It shows what they save, and what that costs in waiting.

    The router's own deciding code runs in virtual time, asked at every step of the trace.
    Emissions are always counted by the trace itself, whatever was forecast.

    Parameters
    ----------
    jobs
        A CSV file, or generated:N for N jobs of mixed urgency spread over the trace. Known
        columns are submitted, length and, as far as wanted, deadline or max_wait, urgency, type,
        interruptible, watts or energy_wh, id; those of Let's Wait Awhile (arrival_slot,
        duration_slots, flex_slots_RULE); and those of GAIA (arrival_time, length, cpus).
    carbon
        FILE[:COLUMN], a CSV file of gCO2e/kWh, gzipped if it ends in .gz. The column is a
        header or a number from 1. A file without times needs --carbon-start and --carbon-step.
    """
    from carbon_orchestrator.pictures import PictureError, check
    from carbon_orchestrator.signal.csv_trace import path_and_column
    from carbon_orchestrator.simulation.compare import compare, fitting, idealise, span
    from carbon_orchestrator.simulation.engine import Setup
    from carbon_orchestrator.simulation.forecasts import ForecastError, Wish
    from carbon_orchestrator.simulation.workload import Options, WorkloadError

    try:
        if plot is not None:
            check(plot)
        wish = Wish.parse(forecast)
        loaded = idealise(load(config)) if idealised else load(config)
        step_ms = None if carbon_step is None else milliseconds(carbon_step)
        trace = _trace(carbon, loaded.zone, carbon_start, step_ms)
        start = trace.start if jobs_start is None else parse_time(jobs_start)
        options = Options(lengths == "known", interruptible, watts, deadline_rule, start)
        wanted = _jobs(jobs, trace, options, seed)
        chosen = fitting(wanted, trace, loaded)
        there = _pools(pools)
        setup = Setup(
            config=loaded,
            pools={loaded.zone: there},
            slots={(pool, loaded.zone): slots for pool, slots in _capacity(capacity, there)},
            learn=lengths == "learned",
        )
        needed = span(chosen, trace, loaded)
        with progress() as bars:
            expected = None
            if wish.kind == "column":
                column = f"{path_and_column(carbon)[0]}:{wish.column}"
                expected = _trace(column, loaded.zone, carbon_start, step_ms)
            forecasts = _forecasts(wish, trace, expected, needed, raw_forecast, bars)
            compared = compare(chosen, trace, forecasts, setup, policy or _POLICIES, bars)
        if csv is not None:
            _write_csv(csv, compared)
        if plot is not None:
            _draw(plot, trace, compared, f"{len(chosen)} jobs, forecast: {forecast}")
    except (ForecastError, WorkloadError, PictureError, ValueError) as error:
        raise Failure(str(error), USAGE) from None
    if json:
        _write_json(compared, forecast, len(wanted) - len(chosen))
        return
    output.table(COLUMNS, [_row(each) for each in compared.outcomes])
    if len(chosen) < len(wanted):
        left_out = len(wanted) - len(chosen)
        output.hint(f"{left_out} jobs left out: their windows reach beyond the carbon trace")


def _row(each: Outcome) -> list[str]:
    fraction = each.of_optimum
    return [
        each.policy,
        mass(each.emissions_ug),
        f"{100 * each.saved:.2f} %",
        "-" if fraction is None else f"{fraction:.3f}",
        duration(each.mean_wait_ms),
        duration(each.p95_wait_ms),
        str(each.missed),
        f"{100 * each.eco_share:.0f} %",
        str(each.segments - each.jobs),
    ]


def _write_json(compared: Comparison, forecast: str, left_out: int) -> None:
    from carbon_orchestrator.simulation.results import as_json

    output.write_json(
        {
            "jobs": len(compared.optima),
            "left_out": left_out,
            "forecast": forecast,
            "policies": as_json(compared.outcomes),
        }
    )


def _write_csv(path: Path, compared: Comparison) -> None:
    from carbon_orchestrator.simulation.results import write_csv

    names = [each.policy for each in compared.outcomes]
    write_csv(path, {name: compared.runs[name] for name in names}, compared.optima)


def _draw(path: Path, trace: Trace, compared: Comparison, title: str) -> None:
    from carbon_orchestrator.simulation.picture import draw

    fates = {policy: run.fates for policy, run in compared.runs.items()}
    draw(path, trace, fates, compared.outcomes, title)


# -- what goes in ----------------------------------------------------------------------------------


def _trace(carbon: str, zone: str, start: str | None, step_ms: int | None) -> Trace:
    from carbon_orchestrator.signal.csv_trace import CsvTrace, path_and_column
    from carbon_orchestrator.simulation.traces import Trace, read_values

    path, column = path_and_column(carbon)
    if step_ms is not None and step_ms < 60_000:
        raise Failure("--carbon-step must be a minute or more", USAGE)
    if start is not None:
        if step_ms is None:
            raise Failure("--carbon-start needs --carbon-step, such as 1h", USAGE)
        return read_values(path, column, parse_time(start), step_ms, zone)
    read = CsvTrace.read(path, column, zone)
    return Trace.of(anyio.run(read.history, 0, _FOREVER_MS), step_ms, zone)


def _jobs(jobs: str, trace: Trace, options: Options, seed: int) -> list[Job]:
    from carbon_orchestrator.simulation.job_files import read_jobs
    from carbon_orchestrator.simulation.workload import generated

    kind, _, count = jobs.partition(":")
    if kind != "generated":
        return read_jobs(Path(jobs), options)
    if not count.isdecimal() or not 1 <= int(count) <= 10_000_000:
        raise Failure("--jobs generated:N needs a number of jobs, 1 to 10000000", USAGE)
    return generated(int(count), trace.start, trace.end, options, seed)


def _pools(text: str) -> tuple[Pool, ...]:
    named = [each.strip() for each in text.split(",")]
    if not set(named) <= set(POOLS):
        raise Failure(f"--pools {text}: write fast, eco or fast,eco", USAGE)
    return tuple(pool for pool in POOLS if pool in named)


def _capacity(text: str | None, there: Sequence[Pool]) -> Iterator[tuple[Pool, int]]:
    for part in (text or "").split(",") if text else ():
        name, _, slots = part.strip().partition("=")
        pool = next((each for each in there if each == name), None)
        if pool is None or not slots.isdecimal() or int(slots) < 1:
            raise Failure(f"--capacity {text}: write POOL=JOBS, such as fast=10,eco=10", USAGE)
        yield pool, int(slots)


def _forecasts(
    wish: Wish,
    trace: Trace,
    column: Trace | None,
    needed: Span,
    raw: bool,
    progress: Progress | None,
) -> Forecasts:
    """`column`: for a wish of that kind, what the file says was forecast of each time."""
    from carbon_orchestrator.simulation import forecasts

    if wish.kind == "perfect":
        return forecasts.perfect(trace, needed.steps)
    done = 0

    def one_more(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None and done % 100 == 0:
            progress("forecasts", done / (needed.last - needed.first))

    if wish.kind == "own":
        return forecasts.own(trace, needed, one_more)
    if column is not None:
        if (column.start, len(column.values)) != (trace.start, len(trace.values)):
            raise Failure("the forecast's column must have a value wherever the carbon has", USAGE)
        values = column.values
    else:
        values = forecasts.noisy(trace, wish.error, wish.seed)
    if raw:
        return forecasts.Known(values, needed.steps)
    return forecasts.corrected(trace, values, needed, one_more)
