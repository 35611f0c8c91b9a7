"""The configurations and clocks by which roles worked, as they announced them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from carbon_orchestrator.audit.grids import place_order
from carbon_orchestrator.clock import GridClock, from_fields
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import RoleStarted
from carbon_orchestrator.router.outlook import Bands
from streams.event import Message


class Announced(NamedTuple):
    """A configuration that roles of this kind have worked by from `since` (an order) on."""

    role: str
    since: int
    config: Config
    bands: Bands


class Configurations:
    """All that are on record, each once for a kind of role, in order."""

    def __init__(self) -> None:
        self.announced: list[Announced] = []
        self.clocks: list[GridClock] = []
        self.unreadable: list[tuple[Message, str]] = []
        self.workers: dict[str, Config] = {}  # by name, the last of each
        self._seen: dict[tuple[str, bytes], Config] = {}

    def add(self, message: Message) -> None:
        """Take in a `role.started`."""
        event: RoleStarted = message.event
        key = event.role, bytes(event.config)
        config = self._seen.get(key)
        if config is None:
            try:
                config = self._seen[key] = decode(event.config)
                bands = Bands.of(config.threshold)
            except (msgspec.DecodeError, ValueError) as error:
                self.unreadable.append((message, str(error)))
                return
            since = place_order(message.entry_id, message.index)
            self.announced.append(Announced(event.role, since, config, bands))
        if event.role == "worker":
            self.workers[event.name] = config
        clock = from_fields({name.encode(): v.encode() for name, v in event.clock.items()})
        if clock not in self.clocks:
            self.clocks.append(clock)

    def of(self, role: str, before: int | None = None) -> Iterator[Announced]:
        """Those of a role, the last first; only those announced before an order."""
        for each in reversed(self.announced):
            if each.role == role and (before is None or each.since < before):
                yield each

    def holds(self) -> list[int]:
        """How long workers let an intensity hold, ms; by default as configured by default."""
        found = [milliseconds(each.config.threshold.max_age) for each in self.of("worker")]
        return list(dict.fromkeys(found)) or [Bands().max_age_ms]

    @property
    def zones(self) -> dict[str, tuple[Any, ...]]:
        """Pools of all zones besides the home zones, that anybody knew."""
        zones: dict[str, tuple[Any, ...]] = {}
        for each in self.announced:
            for zone, pools in each.config.site_pools.items():
                zones[zone] = tuple(dict.fromkeys((*zones.get(zone, ()), *pools)))
        return zones


def decode(raw: msgspec.Raw | bytes) -> Config:
    """A configuration on record, without what this version does not know of it. Raises
    DecodeError for one that it cannot read, ValueError for one that it cannot use."""
    config: Config = msgspec.convert(_known(msgspec.json.decode(raw), Config), Config)
    return config


def _known(value: Any, kind: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            fields: Mapping[str, Any] = get_type_hints(kind)
            return {
                name: _known(each, fields[name]) for name, each in value.items() if name in fields
            }
        if get_origin(kind) is dict:
            return {name: _known(each, get_args(kind)[1]) for name, each in value.items()}
    return value
