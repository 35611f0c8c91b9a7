"""The least that each job could have emitted, had its whole future been known.

Of each job by itself: where pools have limits not all jobs can have their optimum at once, and
the sum is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.router.curve import Curve, Times, Values
from carbon_orchestrator.router.pieces import Pieces
from carbon_orchestrator.simulation.pools import Work, work
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Job

_UG = 1 / 3600  # µg CO2e in mJ at 1 g/kWh


def optimum_ug(job: Job, trace: Trace, config: Config, pools: Sequence[Pool] = POOLS) -> float:
    """µg CO2e of the best run, on the best of `pools`, within the job's deadline or longest wait.

    Urgent jobs run at once. Interruptible ones may stop and go on, at no cost, on either pool.
    """
    curve = trace.curve
    spec = job.spec
    works = [work(job, pool, config) for pool in pools]
    now = spec.submitted_at
    longest = milliseconds(config.greenest.max_wait) if job.max_wait_ms is None else job.max_wait_ms
    waits = [
        (longest if spec.deadline is None else spec.deadline - now - each.length_ms, each)
        for each in works
    ]
    possible = [(wait, each) for wait, each in waits if wait >= 0] or [(0, each) for each in works]
    if spec.interruptible:
        # Also in part on a pool that is too slow for all of it.
        end = now + max(wait + each.length_ms for wait, each in possible)
        return _in_parts(curve, now, end, works) * _UG
    best = min(
        each.energy_mj * _unbroken(curve, now, 0 if spec.urgency == "urgent" else wait, each)
        for wait, each in possible
    )
    return best * _UG


def _unbroken(curve: Curve, now: int, wait_ms: int, run: Work) -> float:
    """Mean intensity of the greenest unbroken run."""
    starts = curve.starts(now, now + wait_ms, run.length_ms)
    return float(curve.means(starts, run.length_ms).min())


def _in_parts(curve: Curve, now: int, end: int, works: Sequence[Work]) -> float:
    """mJ x g/kWh of the greenest pieces of [now, end)."""
    starts, lengths, values = curve.slots(now, end)
    if len(set(works)) > 1:
        return _mixed(lengths, values, works)
    chosen = Pieces(starts, lengths, values, values).cheapest(works[0].length_ms)
    assert chosen is not None
    return chosen.mean * works[0].energy_mj


def _mixed(lengths: Times, values: Values, works: Sequence[Work]) -> float:
    """As `_in_parts`, each piece on whichever pool: the linear programme

        min sum_kp E_p v_k x_kp / L_p   over   sum_p x_kp <= l_k,   sum_kp x_kp / L_p = 1,   x >= 0

    by its dual, max over w of  w - sum_k l_k max(0, max_p (w - E_p v_k) / L_p): w is the worth of
    the whole job. Concave and linear between the values of w at which a piece is taken up or
    changes pools, so its maximum is at one of these.
    """
    energy = np.array([each.energy_mj for each in works], dtype=np.float64)[:, None]
    length = np.array([each.length_ms for each in works], dtype=np.float64)[:, None]
    turns = [(energy * values).ravel()]
    for one in range(len(works)):
        for other in range(one):
            if length[one, 0] != length[other, 0]:
                change = energy[one] * length[other] - energy[other] * length[one]
                turns.append(values * change / (length[other] - length[one]))
    worths = np.unique(np.concatenate(turns))

    def dual(worth: float) -> float:
        gains = ((worth - energy * values) / length).max(axis=0)
        return worth - float(lengths @ np.maximum(gains, 0.0))

    low, high = 0, len(worths) - 1
    while low < high:
        middle = (low + high) // 2
        if dual(float(worths[middle])) < dual(float(worths[middle + 1])):
            low = middle + 1
        else:
            high = middle
    return dual(float(worths[low]))
