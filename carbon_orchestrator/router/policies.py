"""Every policy that decisions on record name, by name and version.

A version whose answers may differ from the last one's is added beside it, as a class of its own,
and the old one stays: what it decided can then be checked for as long as the record is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from carbon_orchestrator.router.greenest import GreenestSlots, GreenestWindow
from carbon_orchestrator.router.policy import Policy
from carbon_orchestrator.router.run_now import RunNow, RunNow1
from carbon_orchestrator.router.threshold import Threshold, Threshold1

Params = msgspec.Raw | bytes
#: Makes a policy of the parameters on record, a JSON object.
Maker = Callable[[Params], Policy]


class UnknownPolicy(ValueError):
    """Nobody has this version of this policy, or it cannot have had these parameters."""


#: By name and version.
POLICIES: dict[tuple[str, int], Maker] = {
    ("run_now", 1): lambda params: RunNow1(),
    ("run_now", 2): lambda params: RunNow(),
    # Its parameters are those of the bands, which the outlook takes account of.
    ("threshold", 1): lambda params: Threshold1(),
    ("threshold", 2): lambda params: Threshold(),
    ("greenest_window", 1): lambda params: msgspec.json.decode(params, type=GreenestWindow),
    ("greenest_slots", 1): lambda params: msgspec.json.decode(params, type=GreenestSlots),
}


def recorded_policy(name: str, version: int, params: Params) -> Policy:
    """The policy that made a decision, as that says. Raises UnknownPolicy."""
    make = POLICIES.get((name, version))
    if make is None:
        known = ", ".join(f"{each} {number}" for each, number in sorted(POLICIES))
        raise UnknownPolicy(f"no policy {name!r} of version {version}; there are {known}")
    try:
        return make(params)
    except msgspec.DecodeError as error:
        raise UnknownPolicy(f"{name} {version} with other parameters: {error}") from None
