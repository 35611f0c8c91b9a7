"""How long a job is expected to run and what it should burn, from what its submitter, history
and operator say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Pool, Spec
from carbon_orchestrator.run_times import Learned

#: What is known of the runs of a type on a pool.
RunTimes = Mapping[tuple[str, Pool], Learned]
#: The share of runs that the longest expected length covers: a deadline is at stake.
QUANTILE = 0.95
UNKNOWN_SECONDS = 60.0
_NOTHING = Learned()
#: A job that has run longer than expected is expected to run this share of its length on.
_OVERRUN = 0.05


class Done(NamedTuple):
    """What an interruptible job has run so far, wall ms, and where it runs now, if it does.

    `segments`: how many of its runs have ended. After each it has to be resumed, which takes
    running time and brings it no further.
    """

    fast_ms: int = 0
    eco_ms: int = 0
    running: Pool | None = None
    segments: int = 0

    def so_far(self, pool: Pool, ms: int) -> Done:
        """With a run on `pool` that has lasted `ms` and goes on."""
        return self._with(pool, ms)._replace(running=pool)

    def after(self, pool: Pool, ms: int) -> Done:
        """With a run on `pool` that ended after `ms`."""
        return self._with(pool, ms)._replace(segments=self.segments + 1)

    def _with(self, pool: Pool, ms: int) -> Done:
        if pool == "fast":
            return self._replace(fast_ms=self.fast_ms + ms)
        return self._replace(eco_ms=self.eco_ms + ms)


class Expected(NamedTuple):
    """Of the whole job on one pool: a length that few exceed, the mean length, both wall ms,
    and the energy, in mJ where learned, else in units of what FAST burns."""

    longest: float
    mean: float
    energy: float


def longest(spec: Spec, pool: Pool, config: Config, learned: RunTimes) -> float:
    """Wall ms that the job takes on `pool`, rather too long than too short.

    What has been learned for the type on that pool; else what was learned on the other one, or
    what the submitter, then the operator, expects on FAST, times the slowdown between them. A
    submitter who expects more than was learned is believed.
    """
    known = learned.get((spec.type, pool), _NOTHING).quantile(QUANTILE)
    if known is not None:
        if spec.expected_duration is None:
            return known
        stated = spec.expected_duration * 1000 * _slowdown(spec, pool, config, learned)
        return max(known, stated)
    elsewhere = learned.get((spec.type, _other(pool)), _NOTHING).quantile(QUANTILE)
    if elsewhere is not None and spec.expected_duration is None:
        slowdown = _slowdown(spec, pool, config, learned)
        return elsewhere * slowdown / _slowdown(spec, _other(pool), config, learned)
    return _stated(spec, config) * _slowdown(spec, pool, config, learned)


def expected(spec: Spec, config: Config, learned: RunTimes) -> tuple[Expected, Expected]:
    """What the whole job takes on FAST and on ECO."""
    fast, eco = _length(spec, "fast", config, learned), _length(spec, "eco", config, learned)
    fast_mw = learned.get((spec.type, "fast"), _NOTHING).power_mw()
    eco_mw = learned.get((spec.type, "eco"), _NOTHING).power_mw()
    ratio = config.pools["eco"].energy / config.pools["fast"].energy
    if fast_mw is not None and eco_mw is not None:
        energies = fast_mw * fast[1] / 1000, eco_mw * eco[1] / 1000
    elif fast_mw is not None:
        energies = fast_mw * fast[1] / 1000, ratio * fast_mw * fast[1] / 1000
    elif eco_mw is not None:
        energies = eco_mw * eco[1] / 1000 / ratio, eco_mw * eco[1] / 1000
    else:
        energies = 1.0, ratio
    return Expected(*fast, max(energies[0], 1e-9)), Expected(*eco, max(energies[1], 1e-9))


def on_fast(job_type: str, learned: RunTimes) -> tuple[float, float]:
    """Mean energy and mean length of a type's jobs on FAST against those on ECO; 1 each unless
    both are learned on both pools: nothing is claimed by what somebody guessed."""
    fast = learned.get((job_type, "fast"), _NOTHING)
    eco = learned.get((job_type, "eco"), _NOTHING)
    fast_ms, eco_ms = fast.mean_ms(), eco.mean_ms()
    fast_mw, eco_mw = fast.power_mw(), eco.power_mw()
    if not (fast_ms and eco_ms and fast_mw and eco_mw):
        return 1.0, 1.0
    length = fast_ms / eco_ms
    return fast_mw / eco_mw * length, length


class OnFast:
    """Remembers `on_fast` by type, as long as what is learned stays the same."""

    def __init__(self) -> None:
        self._learned: RunTimes = {}
        self._found: dict[str, tuple[float, float]] = {}

    def of(self, job_type: str, pool: Pool, learned: RunTimes) -> tuple[float, float]:
        """Against those on `pool`."""
        if pool == "fast":
            return 1.0, 1.0
        if learned is not self._learned:
            self._learned, self._found = learned, {}
        if job_type not in self._found:
            self._found[job_type] = on_fast(job_type, learned)
        return self._found[job_type]


def left(whole: tuple[Expected, Expected], done: Done) -> tuple[Expected, Expected]:
    """What is left of a job of which `done` has run; never nothing."""
    ran = (done.fast_ms, done.eco_ms)
    if not any(ran):
        return whole
    mean = 1 - sum(ms / part.mean for ms, part in zip(ran, whole, strict=True))
    most = 1 - sum(ms / part.longest for ms, part in zip(ran, whole, strict=True))
    mean = mean if mean > 0 else _OVERRUN
    most = max(most, mean)
    fast, eco = (
        Expected(max(part.longest * most, part.mean * mean), part.mean * mean, part.energy * mean)
        for part in whole
    )
    return fast, eco


def _length(spec: Spec, pool: Pool, config: Config, learned: RunTimes) -> tuple[float, float]:
    most = longest(spec, pool, config, learned)
    if spec.expected_duration is not None:
        mean: float | None
        mean = spec.expected_duration * 1000 * _slowdown(spec, pool, config, learned)
    else:
        mean = learned.get((spec.type, pool), _NOTHING).mean_ms()
        elsewhere = learned.get((spec.type, _other(pool)), _NOTHING).mean_ms()
        if mean is None and elsewhere is not None:
            slowdown = _slowdown(spec, pool, config, learned)
            mean = elsewhere * slowdown / _slowdown(spec, _other(pool), config, learned)
    return max(most, 1.0), max(min(most if mean is None else mean, most), 1.0)


def _slowdown(spec: Spec, pool: Pool, config: Config, learned: RunTimes) -> float:
    """Length on `pool` against FAST, learned where both pools have run the type."""
    if pool == "fast":
        return config.pools["fast"].slowdown
    fast = learned.get((spec.type, "fast"), _NOTHING).mean_ms()
    eco = learned.get((spec.type, "eco"), _NOTHING).mean_ms()
    if fast and eco:
        return eco / fast * config.pools["fast"].slowdown
    return config.pools["eco"].slowdown


def _stated(spec: Spec, config: Config) -> float:
    """Wall ms on FAST as the submitter or else the operator expects them."""
    if spec.expected_duration is not None:
        return spec.expected_duration * 1000
    job_type = config.types.get(spec.type)  # a type may be gone while its jobs wait
    configured = None if job_type is None else job_type.expected_duration
    return 1000 * (UNKNOWN_SECONDS if configured is None else seconds(configured))


def _other(pool: Pool) -> Pool:
    return "eco" if pool == "fast" else "fast"
