"""Energy: formulas as properties, counters from a real (fake) powercap tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import PowerModel
from carbon_orchestrator.worker.energy import (
    EnergyMeter,
    Part,
    combine,
    cpu_model_mj,
    rapl_share_mj,
)
from carbon_orchestrator.worker.rapl import advance, busy_ms

LIMIT = 262_143_328_850
POWER = PowerModel(cpu_watts=8.0, uncertainty=0.5, pue=1.5)
positive = st.floats(0, 1e12)


def test_the_model_is_watts_times_cpu_time() -> None:
    assert cpu_model_mj(1000.0, 8.0) == 8000.0  # 1 s at 8 W is 8 J


def test_a_share_of_rapl() -> None:
    assert rapl_share_mj(40_000_000, 2000, 500) == 10_000  # a quarter of 40 J
    assert rapl_share_mj(40_000_000, 0, 500) == 0


@given(st.integers(0, 10**12), positive, positive)
def test_a_share_is_never_more_than_all(package_uj: int, busy: float, cpu: float) -> None:
    assert 0 <= rapl_share_mj(package_uj, busy, cpu) <= package_uj / 1000


@given(st.integers(0, LIMIT - 1), st.integers(0, LIMIT - 1))
def test_a_counter_may_wrap_once(before: int, spent: int) -> None:
    assert advance(before, (before + spent) % LIMIT, LIMIT) == spent


def test_busy_time_leaves_idle_iowait_steal_and_guests_out() -> None:
    text = "cpu  10 20 30 1000 500 4 6 77 5 5\ncpu0 1 2 3 4\n"
    assert busy_ms(text, 100) == 700
    with pytest.raises(ValueError, match="begin"):
        busy_ms("intr 1 2 3", 100)


@given(st.lists(st.tuples(positive, st.floats(0, 1)), min_size=1), st.floats(1, 3))
def test_combined_uncertainty_lies_between_those_of_the_parts(
    values: list[tuple[float, float]], pue: float
) -> None:
    energy = combine([Part(mj, "m", uncertainty) for mj, uncertainty in values], pue)
    assert energy.mj == round(sum(mj for mj, _ in values) * pue)
    assert min(u for _, u in values) - 1e-4 <= energy.uncertainty
    assert energy.uncertainty <= max(u for _, u in values) + 1e-4


class Machine:
    """A powercap tree and a /proc/stat, as files, and a clock."""

    def __init__(self, root: Path) -> None:
        self.powercap = root / "powercap"
        self.stat = root / "stat"
        self.time = 0.0
        self.zone("intel-rapl:0", "package-0")
        self.zone("intel-rapl:1", "package-1")
        self.zone("intel-rapl:2", "psys")
        self.zone("intel-rapl:0:0", "core")
        self.zone("intel-rapl-mmio:0", "package-0")
        self.busy(0)

    def zone(self, directory: str, name: str) -> None:
        path = self.powercap / directory
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{LIMIT}\n")
        (path / "energy_uj").write_text("5\n")

    def energy(self, zone: str, uj: int) -> None:
        (self.powercap / zone / "energy_uj").write_text(f"{uj}\n")

    def busy(self, ticks: int) -> None:
        self.stat.write_text(f"cpu  {ticks} 0 0 0 0 0 0 0 0 0\n")

    def meter(self, **options: Any) -> EnergyMeter:
        return EnergyMeter(
            POWER,
            powercap=self.powercap,
            proc_stat=self.stat,
            now=lambda: self.time,
            **options,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_rapl_the_model_is_used_and_said(tmp_path: Path) -> None:
    meter = EnergyMeter(POWER, powercap=tmp_path / "none")
    assert meter.statement == "CPU energy: CPU time x 8 W (this machine shows no RAPL counters)"
    assert not meter.wraps
    reading = meter.begin()
    assert reading is None
    energy = meter.end(reading, 1000.0)
    assert (energy.mj, energy.method, energy.uncertainty) == (12_000, "cpu-time-model", 0.5)


def test_rapl_is_shared_by_cpu_time(machine: Machine) -> None:
    meter = machine.meter()
    assert meter.statement == "CPU energy: RAPL (package-0, package-1), shared by CPU time"
    reading = meter.begin()
    machine.time = 10
    machine.energy("intel-rapl:0", 30_000_005)
    machine.energy("intel-rapl:1", 10_000_005)
    machine.energy("intel-rapl:2", 99_000_005)
    machine.energy("intel-rapl:0:0", 20_000_005)
    machine.busy(800)  # 8 s
    energy = meter.end(reading, 2000.0)
    assert energy.method == "rapl-cpu-share"
    assert energy.mj == 15_000  # 40 J x 2 s / 8 s x PUE 1.5
    assert energy.uncertainty == 0.25


def test_a_long_run_over_several_wraps(machine: Machine) -> None:
    meter = machine.meter()
    assert meter.wraps
    reading = meter.begin()
    for minute in range(1, 6):  # 0.6 of the range each minute
        machine.time = minute * 60
        machine.energy("intel-rapl:0", (5 + minute * (LIMIT * 6 // 10)) % LIMIT)
        machine.busy(minute * 6000)
        meter.refresh()
    assert meter.end(reading, 300_000.0).mj == round(5 * (LIMIT * 6 // 10) / 1000 * 1.5)


def test_a_short_run_is_measured_by_the_last_window(machine: Machine) -> None:
    meter = machine.meter()
    assert meter.end(meter.begin(), 10.0).method == "cpu-time-model", "no window yet"
    machine.time = 1
    machine.energy("intel-rapl:0", 20_000_005)
    machine.busy(100)
    reading = meter.begin()  # samples: 20 J in 1 s of CPU
    machine.time = 1.1
    energy = meter.end(reading, 10.0)
    assert (energy.method, energy.mj) == ("rapl-cpu-share", 300)


def test_rapl_that_goes_away_leaves_the_model(machine: Machine) -> None:
    meter = machine.meter()
    reading = meter.begin()
    machine.time = 5
    (machine.powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.end(reading, 1000.0).method == "cpu-time-model"
    assert meter.end(meter.begin(), 1000.0).mj == 12_000


def test_unreadable_rapl_says_why(machine: Machine) -> None:
    machine.energy("intel-rapl:0", 1)
    (machine.powercap / "intel-rapl:0" / "energy_uj").write_text("what\n")
    assert "RAPL counters are unreadable" in machine.meter().statement


class NVMLError(Exception):
    pass


class Nvml:
    """As much of pynvml as is used; GPU 0 and 1 exist, GPU 1 has no counter."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.mj = 1000
        self.lost = False

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index > 1:
            raise NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if handle == 1:
            raise NVMLError("Not Supported")
        if self.lost:
            raise NVMLError("GPU is lost")
        return self.mj


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    return tmp_path / "no-powercap"


def test_gpus_are_added_to_the_cpu(nothing: Path) -> None:
    nvml = Nvml()
    meter = EnergyMeter(POWER, [0], powercap=nothing, nvml=nvml)
    assert meter.statement.endswith("; GPU energy: NVML of GPU 0")
    reading = meter.begin([0])
    nvml.mj += 92_000
    energy = meter.end(reading, 1000.0)
    assert energy.mj == round((92_000 + 8_000) * 1.5)
    assert energy.method == "cpu-time-model+nvml"
    assert energy.uncertainty == pytest.approx(0.92 * 0.05 + 0.08 * 0.5)


def test_attempts_at_the_same_time_share_a_gpu_without_counting_twice(nothing: Path) -> None:
    nvml = Nvml()
    meter = EnergyMeter(PowerModel(), [0], powercap=nothing, nvml=nvml)
    first = meter.begin([0])
    nvml.mj += 100
    second = meter.begin([0])
    nvml.mj += 60
    assert meter.end(first, 0.0).mj == 130
    nvml.mj += 7
    assert meter.end(second, 0.0).mj == 37
    nvml.mj += 1000  # nobody's
    assert meter.end(meter.begin([0]), 0.0).mj == 0


def test_gpus_that_cannot_be_measured_are_named(nothing: Path) -> None:
    nvml = Nvml()
    meter = EnergyMeter(POWER, [0, 1, 2], powercap=nothing, nvml=nvml)
    assert meter.limitations([0]) == ()
    assert meter.limitations([1, 2]) == (
        "GPU 1 not measured: Not Supported",
        "GPU 2 not measured: Invalid Argument",
    )
    energy = meter.end(meter.begin([1]), 1000.0)
    assert energy.method == "cpu-time-model+gpu-unmeasured"
    assert (energy.mj, energy.uncertainty) == (12_000, 1.0)
    partly = meter.end(meter.begin([0, 1]), 1000.0)
    assert partly.method == "cpu-time-model+nvml+gpu-unmeasured"
    assert partly.uncertainty == 1.0


def test_what_a_pod_requested_is_an_estimate_and_told_as_one(nothing: Path) -> None:
    meter = EnergyMeter(POWER, powercap=nothing)
    energy = meter.requested(1000.0, gpus=False)
    assert (energy.mj, energy.method, energy.uncertainty) == (12_000, "cpu-request-model", 1.0)
    assert meter.requested(1000.0, gpus=True).method == "cpu-request-model+gpu-unmeasured"
    assert meter.requested(0.0, gpus=False).mj == 0


def test_a_gpu_lost_during_the_run_is_told(nothing: Path) -> None:
    nvml = Nvml()
    meter = EnergyMeter(POWER, [0], powercap=nothing, nvml=nvml)
    reading = meter.begin([0])
    nvml.lost = True
    assert meter.end(reading, 0.0).method.endswith("gpu-unmeasured")


def test_nvml_that_does_not_start_is_told(nothing: Path) -> None:
    class Driverless(Nvml):
        def nvmlInit(self) -> None:
            raise NVMLError("Driver Not Loaded")

    meter = EnergyMeter(POWER, [0], powercap=nothing, nvml=Driverless())
    assert meter.statement.endswith("GPU 0 not measured: Driver Not Loaded")


def test_nvml_is_not_imported_without_gpus(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)  # importing it would fail
    assert "GPU" not in EnergyMeter(POWER, powercap=nothing).statement
    assert "not installed" in EnergyMeter(POWER, [0], powercap=nothing).statement
