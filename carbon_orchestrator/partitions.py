"""How many partitions a deployment has, and what falls to each. Pure.

The number is on record beside the grid clock, from the first start on: with another one, jobs would
not be found again. A deployment without it on record has one partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from carbon_orchestrator.config import Config, ConfigError

_FIELD = "partitions"


def fields(partitions: int) -> dict[str, str]:
    """What goes on record, as fields of the `clock` hash."""
    return {} if partitions == 1 else {_FIELD: str(partitions)}


def agreed(clock: Mapping[Any, Any], wanted: int | None) -> int:
    """The number by a `clock` hash, as far as there is one, and by a configuration. Raises
    ConfigError where they differ."""
    if not clock:
        return wanted or 1
    recorded = int(clock.get(_FIELD.encode(), 1))
    if wanted is not None and wanted != recorded:
        raise ConfigError(
            f"this deployment has {recorded} partition{'s' * (recorded > 1)}, not {wanted}: the"
            " number is fixed at the first start. Configure that one, or none; or begin another"
            " deployment, with another namespace, and submit there"
        )
    return recorded


def share(config: Config, partitions: int) -> Config:
    """What one of so many partitions goes by: of what is limited for all, its part."""
    if partitions == 1:
        return config
    pools = {
        name: msgspec.structs.replace(
            pool,
            slots=_part(pool.slots, partitions),
            capacity=None if pool.capacity is None else _part(pool.capacity, partitions),
        )
        for name, pool in config.pools.items()
    }
    limits = msgspec.structs.replace(
        config.limits, max_waiting=_part(config.limits.max_waiting, partitions)
    )
    return msgspec.structs.replace(config, pools=pools, limits=limits)


def part(slots: int, partitions: int, number: int, turn: int) -> int:
    """How many of a worker's slots it offers to the partition of that number: one at least, or
    jobs there would find no pool. `turn`: another one for each worker, so that what is left over
    does not go to the same partitions always."""
    whole, rest = divmod(slots, partitions)
    return max(1, whole + ((number + turn) % partitions < rest))


def _part(amount: int, partitions: int) -> int:
    return max(1, amount // partitions)
