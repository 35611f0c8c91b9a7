"""The published figures of Let's Wait Awhile, to a hundredth of a percentage point.

The data and the definitions (lwa_table.json) are no part of this project: CARBON_TEST_DATA.
A year takes seconds, so that two of the four are for thorough runs only (depth.py).
"""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from depth import in_depth
from small_grids import FAST_ONLY, HOUR, data

from carbon_orchestrator.config import Config, PolicyName, ThresholdConfig, complete
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.signal.csv_trace import CsvTrace
from carbon_orchestrator.simulation import forecasts
from carbon_orchestrator.simulation.compare import idealise, span
from carbon_orchestrator.simulation.engine import Setup, simulate
from carbon_orchestrator.simulation.grid import TraceGrid
from carbon_orchestrator.simulation.job_files import read_jobs
from carbon_orchestrator.simulation.results import emitted_ug
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Options

SLOT = HOUR // 2
BANDS = ThresholdConfig(mode="absolute", low=1, high=2, window=0)  # nobody asks for them
IDEAL = idealise(complete(Config(threshold=BANDS)))


@pytest.mark.parametrize(
    ("region", "rule", "kind"),
    [
        ("ger", "next_workday", "non_interruptible"),
        pytest.param("gb", "semi_weekly", "non_interruptible", marks=in_depth),
        pytest.param("ger", "semi_weekly", "interruptible", marks=in_depth),
        ("gb", "next_workday", "interruptible"),
    ],
)
def test_error_0(region: str, rule: str, kind: str) -> None:
    folder = data()
    read = CsvTrace.read(folder / f"lwa_{region}_ci.csv")
    points = asyncio.run(read.history(0, 2_000_000_000_000))
    trace = Trace.of(points, SLOT)
    interruptible = kind == "interruptible"
    options = Options(interruptible=interruptible, rule=rule)
    jobs = read_jobs(folder / "lwa_jobs.csv", options)
    policy: PolicyName = "greenest_slots" if interruptible else "greenest_window"
    config = msgspec.structs.replace(IDEAL, policy=policy)
    ahead = forecasts.perfect(trace, span(jobs, trace, config).steps)
    grid = TraceGrid(trace, ahead, Bands.of(config.threshold), points=False)
    began = time.process_time()
    fates = simulate(jobs, [grid], Setup(config=config, pools=FAST_ONLY))
    took = time.process_time() - began
    table = json.loads((folder / "lwa_table.json").read_text())["scenario_II_ml_project"][region]
    # Both of one power, so that slots x intensity are emissions.
    unit = jobs[0].energy_mj / (jobs[0].length_ms // SLOT) / 3600
    slots = sum(emitted_ug(fate, {"local": trace.series}) for fate in fates) / unit
    saved = 100 * (1 - slots / table["baseline_ci_slots_their_definition"])
    published = table["configs"][f"{rule}|{kind}"]["saving_pct_error_0"]
    assert saved == pytest.approx(published, abs=0.01)
    assert sum(fate.missed for fate in fates) == 0
    assert took < 30  # of processor time; some 5 s on an idle core
