"""What an attempt burnt: the best measurement that this machine offers, and how sure it is.

- "rapl-cpu-share": the CPU packages' energy counters over the run, the job's share being its
  part of the machine's busy CPU time. Energy of idle cores is so shared out too.
- "cpu-time-model": the job's CPU time x PowerModel.cpu_watts, where RAPL cannot be read.
- "cpu-request-model": the CPU time that was set aside for a pod x PowerModel.cpu_watts, as what it
  used of it, on another machine, is not seen.
- "+nvml": the energy counters of the GPUs that the job's type names, on top of either.

Millijoules (mJ) throughout: milliseconds x watts, so no factor. PUE multiplies the sum.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from carbon_orchestrator.config import PowerModel
from carbon_orchestrator.worker.rapl import POWERCAP, PROC_STAT, Rapl, Sample

log = structlog.get_logger(__name__)

MODEL = "cpu-time-model"
REQUESTED = "cpu-request-model"
RAPL_SHARE = "rapl-cpu-share"
NVML = "nvml"
GPU_UNMEASURED = "gpu-unmeasured"

# The counter itself is within a few per cent (Hackenberg et al., 2015, doi:10.1109/IPDPSW.2015.70);
# sharing it by CPU time ignores hyper-threads, frequencies and instruction mix: our judgement.
RAPL_UNCERTAINTY = 0.25
# NVML's documentation of power readings: "accurate to within +/- 5 percent".
NVML_UNCERTAINTY = 0.05
# What is requested may lie idle, or be exceeded up to a limit: it tells no more than the size.
REQUESTED_UNCERTAINTY = 1.0
# A GPU job without its GPUs' energy: the figure is a lower bound, anything may be missing.
UNMEASURED_UNCERTAINTY = 1.0

_RAPL_WINDOW = 1.0  # seconds; busy time comes in ticks of 10 ms


class Energy(msgspec.Struct, frozen=True):
    mj: int  # millijoules, PUE included
    method: str
    uncertainty: float  # relative: 0.3 means ±30 %


class Part(msgspec.Struct, frozen=True):
    """One source's contribution, before PUE and rounding."""

    mj: float
    method: str
    uncertainty: float


def cpu_model_mj(cpu_ms: float, watts: float) -> float:
    """Energy of `cpu_ms` of busy CPU time at `watts` per busy logical CPU."""
    return cpu_ms * watts


def rapl_share_mj(package_uj: int, busy_ms: float, cpu_ms: float) -> float:
    """A job's part of `package_uj` (µJ), by its part of the machine's busy CPU time.

    E_job = E_packages x t_job / t_busy, as in Scaphandre
    (https://hubblo-org.github.io/scaphandre-documentation/explanations/how-scaph-computes-per-process-power-consumption.html).
    All times are of one window; a job cannot have had more than all of it.
    """
    if busy_ms <= 0:
        return 0.0
    return package_uj / 1000 * min(1.0, cpu_ms / busy_ms)


def combine(parts: Sequence[Part], pue: float) -> Energy:
    """Sum of `parts` times `pue`, in whole mJ.

    Uncertainties are added as if they erred together, the most cautious way:
    u = sum(E_i u_i) / sum(E_i).
    """
    total = sum(part.mj for part in parts)
    if total > 0:
        uncertainty = sum(part.mj / total * part.uncertainty for part in parts)
    else:
        uncertainty = max(part.uncertainty for part in parts)
    method = "+".join(part.method for part in parts)
    return Energy(round(total * pue), method, round(uncertainty, 4))


class GpuShare(msgspec.Struct):
    """One attempt's running account of the GPUs that it uses."""

    gpus: tuple[int, ...]
    mj: float = 0.0
    complete: bool = True


class Gpus:
    """Shares each GPU's energy among the attempts that use it at the same time, equally.

    Counters are read when an attempt begins or ends, so that no millijoule is counted twice.
    Other processes' use of the GPU is not seen. `gpus` that cannot be read are in `missing`,
    with the reason.
    """

    def __init__(self, indices: Iterable[int], nvml: Any = None) -> None:
        self.missing: dict[int, str] = {}
        self._handles: dict[int, Any] = {}
        self._last: dict[int, int] = {}
        self._using: dict[int, list[GpuShare]] = {}
        self._nvml: Any = None
        wanted = sorted(set(indices))
        if not wanted:
            return
        try:
            self._nvml = nvml if nvml is not None else importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except ImportError:
            self.missing = dict.fromkeys(wanted, "NVML bindings are not installed (extra: gpu)")
            return
        except self._nvml.NVMLError as error:
            self.missing = dict.fromkeys(wanted, str(error))
            return
        for gpu in wanted:
            try:
                self._handles[gpu] = self._nvml.nvmlDeviceGetHandleByIndex(gpu)
                self._last[gpu] = self._read(gpu)
                self._using[gpu] = []
            except self._nvml.NVMLError as error:
                self.missing[gpu] = str(error)

    @property
    def measured(self) -> tuple[int, ...]:
        return tuple(self._using)

    def begin(self, gpus: Sequence[int]) -> GpuShare:
        share = GpuShare(tuple(gpu for gpu in gpus if gpu in self._using))
        share.complete = len(share.gpus) == len(gpus)
        for gpu in share.gpus:
            self._settle(gpu)
            self._using[gpu].append(share)
        return share

    def end(self, share: GpuShare) -> None:
        for gpu in share.gpus:
            self._settle(gpu)
            self._using[gpu] = [other for other in self._using[gpu] if other is not share]

    def _read(self, gpu: int) -> int:
        """mJ since the driver was loaded."""
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handles[gpu]))

    def _settle(self, gpu: int) -> None:
        users = self._using[gpu]
        try:
            now = self._read(gpu)
        except self._nvml.NVMLError as error:
            log.warning("energy.gpu_unreadable", gpu=gpu, error=str(error))
            for share in users:
                share.complete = False
            return
        spent = max(0, now - self._last[gpu])  # the driver may have been loaded anew
        self._last[gpu] = now
        for share in users:
            share.mj += spent / len(users)


class Reading(msgspec.Struct):
    """Counters as an attempt began."""

    rapl: Sample | None = None
    gpus: GpuShare | None = None


class EnergyMeter:
    """Measures attempts with what there is; `statement` says for a person what that is.

    gpus: NVML indices of all types' GPUs. powercap, proc_stat: where the kernel shows RAPL and
    busy CPU time. nvml: the pynvml module, imported only when there are `gpus`.
    """

    def __init__(
        self,
        power: PowerModel,
        gpus: Iterable[int] = (),
        *,
        powercap: Path = POWERCAP,
        proc_stat: Path = PROC_STAT,
        nvml: Any = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._power = power
        self._now = now
        self._rapl: Rapl | None = None
        self._latest: Sample | None = None
        self._previous: Sample | None = None
        try:
            self._rapl = Rapl(powercap, proc_stat)
            self._latest = self._rapl.sample(now())
            self.statement = f"CPU energy: RAPL ({self._rapl.zones}), shared by CPU time"
        except OSError as error:
            self._rapl = None
            self.statement = f"CPU energy: CPU time x {power.cpu_watts:g} W ({error})"
        self._gpus = Gpus(gpus, nvml)
        if self._gpus.measured:
            self.statement += "; GPU energy: NVML of GPU " + _listed(self._gpus.measured)
        for gpu, reason in self._gpus.missing.items():
            self.statement += f"; GPU {gpu} not measured: {reason}"

    @property
    def wraps(self) -> bool:
        """Whether counters run that `refresh` must read at least every minute (they wrap)."""
        return self._rapl is not None

    def limitations(self, gpus: Sequence[int]) -> tuple[str, ...]:
        """What of a type with these GPUs goes unmeasured, as phrases for a person."""
        missing = self._gpus.missing
        return tuple(f"GPU {gpu} not measured: {missing[gpu]}" for gpu in gpus if gpu in missing)

    def begin(self, gpus: Sequence[int] = ()) -> Reading | None:
        """Call as an attempt begins; None where nothing needs reading."""
        if self._rapl is None and not gpus:
            return None
        self.refresh()
        return Reading(self._latest, self._gpus.begin(gpus) if gpus else None)

    def end(self, reading: Reading | None, cpu_ms: float) -> Energy:
        """The attempt's energy, given the CPU time of all its processes; call once per begin."""
        if reading is None:
            return combine((self._model(cpu_ms),), self._power.pue)
        parts = [self._rapl_part(reading.rapl, cpu_ms) or self._model(cpu_ms)]
        if share := reading.gpus:
            self._gpus.end(share)
            if share.gpus:
                parts.append(Part(share.mj, NVML, NVML_UNCERTAINTY))
            if not share.complete:
                parts = [
                    msgspec.structs.replace(p, uncertainty=UNMEASURED_UNCERTAINTY) for p in parts
                ]
                parts.append(Part(0.0, GPU_UNMEASURED, UNMEASURED_UNCERTAINTY))
        return combine(parts, self._power.pue)

    def requested(self, reserved_ms: float, gpus: bool) -> Energy:
        """Of a pod for which so much CPU time was set aside, and perhaps GPUs, elsewhere."""
        mj = cpu_model_mj(reserved_ms, self._power.cpu_watts)
        parts = [Part(mj, REQUESTED, REQUESTED_UNCERTAINTY)]
        if gpus:
            parts.append(Part(0.0, GPU_UNMEASURED, UNMEASURED_UNCERTAINTY))
        return combine(parts, self._power.pue)

    def refresh(self) -> None:
        """Read RAPL unless that was done within the last second."""
        if self._rapl is None or self._latest is None:
            return
        now = self._now()
        if now - self._latest.at < _RAPL_WINDOW:
            return
        try:
            sample = self._rapl.sample(now)
        except OSError as error:
            log.warning("energy.rapl_lost", error=str(error))
            self._rapl = None
            return
        self._previous, self._latest = self._latest, sample

    def _model(self, cpu_ms: float) -> Part:
        return Part(cpu_model_mj(cpu_ms, self._power.cpu_watts), MODEL, self._power.uncertainty)

    def _rapl_part(self, start: Sample | None, cpu_ms: float) -> Part | None:
        """By RAPL over the run; for a short one at the rate of the last whole window."""
        self.refresh()
        if start is None or self._rapl is None or self._latest is None:
            return None
        if start is self._latest:
            if self._previous is None:
                return None
            start = self._previous
        package_uj = self._latest.package_uj - start.package_uj
        busy_ms = self._latest.busy_ms - start.busy_ms
        if busy_ms <= 0:
            return None
        return Part(rapl_share_mj(package_uj, busy_ms, cpu_ms), RAPL_SHARE, RAPL_UNCERTAINTY)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
