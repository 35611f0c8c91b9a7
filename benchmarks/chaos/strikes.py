"""Which faults come when, to whom, for how long: drawn from the seed alone."""

from __future__ import annotations

import random

import msgspec

from benchmarks.chaos.plan import LEASE_SECONDS, PUBLISHER, ROLES, Plan

_HOUR = 3600.0
#: Until a role that was killed works again.
_RESTART_SECONDS = 3.0
#: Of each kind: shortest and longest time, seconds, and how often it comes against others.
_SPANS: dict[str, tuple[float, float, int]] = {
    "kill": (_RESTART_SECONDS, _RESTART_SECONDS, 8),
    "pause": (LEASE_SECONDS * 1.1, LEASE_SECONDS * 2.5, 4),
    "kill-server": (_RESTART_SECONDS, _RESTART_SECONDS, 1),
    "latency": (2.0, 8.0, 2),
    "cut": (0.2, 3.0, 2),
    "half-open": (2.0, 14.0, 2),
    "mid-reply": (2.0, 6.0, 3),
    "trickle": (2.0, 6.0, 1),
    "oom": (2.0, 5.0, 1),
    "disk": (2.0, 5.0, 1),
    "archive": (4.0, 12.0, 1),
    "clock": (3.0, 15.0, 3),
    "failover": (6.0, 8.0, 1),
}
_LONG_PAUSES = 0.1  # the share of pauses that may be the longest
_ON_LINKS = ("latency", "cut", "half-open", "mid-reply", "trickle")
_ON_SERVER = ("kill-server", "oom", "disk", "failover")
_TO_PAUSE = tuple(each for each in ROLES if each.startswith(("router", "worker", "account")))
_TO_FILL = tuple(each for each in ROLES if each.startswith("accounting"))
_LINKS = (*ROLES, PUBLISHER)


class Strike(msgspec.Struct, frozen=True):
    """`at` and `seconds`: from the start of the run, and for how long. `amount` means what the
    kind makes of it; `seed` is for what is drawn while it goes on."""

    at: float
    kind: str
    target: str
    seconds: float
    amount: float
    seed: int


def schedule(plan: Plan) -> list[Strike]:
    """All strikes of a run, by time. None begins before what befell its target is over."""
    chance = random.Random(plan.seed)
    kinds = list(plan.faults)
    weights = [_SPANS[each][2] for each in kinds]
    busy: dict[str, float] = {}
    strikes: list[Strike] = []
    at = 0.0
    first = list(kinds)  # each kind once, before chance alone decides
    chance.shuffle(first)
    while kinds:
        at += chance.uniform(*plan.between)
        kind = first[-1] if first else chance.choices(kinds, weights)[0]
        target = chance.choice(_targets(kind))
        strike = Strike(
            round(at, 3),
            kind,
            target,
            round(_length(kind, plan, chance), 3),
            _amount(kind, chance),
            chance.randrange(1 << 31),
        )
        if at + strike.seconds > plan.seconds:
            if at > plan.seconds:
                break
            first[:-1], first[-1:] = first[-1:] + first[:-1], []
            continue
        place = f"link {target}" if kind in _ON_LINKS else target
        if busy.get(place, 0.0) > at:
            continue
        busy[place] = at + strike.seconds + (_RESTART_SECONDS if target == "server" else 0.5)
        if first:
            first.pop()
        strikes.append(strike)
    return strikes


def _targets(kind: str) -> tuple[str, ...]:
    if kind in _ON_SERVER:
        return ("server",)
    if kind in _ON_LINKS:
        return _LINKS
    return {"pause": _TO_PAUSE, "archive": _TO_FILL}.get(kind, ROLES)


def _length(kind: str, plan: Plan, chance: random.Random) -> float:
    shortest, longest, _ = _SPANS[kind]
    if kind == "pause" and chance.random() < _LONG_PAUSES:
        longest = max(longest, plan.longest_pause)
    return chance.uniform(shortest, longest)


def _amount(kind: str, chance: random.Random) -> float:
    """Seconds of a clock's step, ms of latency; else any number from 0 to 1."""
    if kind == "clock":
        return chance.choice((-_HOUR, _HOUR, -5.0, 5.0, chance.uniform(-_HOUR, _HOUR)))
    if kind == "latency":
        return chance.choice((2.0, 20.0, 200.0))
    return chance.random()
