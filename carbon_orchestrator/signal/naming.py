"""The text form in which an operator names a carbon signal."""

from __future__ import annotations

from collections.abc import Callable

from carbon_orchestrator.signal.csv_trace import CsvTrace, path_and_column
from carbon_orchestrator.signal.electricity_maps import ElectricityMaps
from carbon_orchestrator.signal.energy_charts import EnergyCharts
from carbon_orchestrator.signal.live import Live
from carbon_orchestrator.signal.neso import Neso
from carbon_orchestrator.signal.provider import Provider, SignalError
from carbon_orchestrator.signal.simulated import Simulated
from carbon_orchestrator.signal.watttime import WattTime

PROVIDERS = {
    "neso[:REGION]": "Great Britain, the nation, a region from 1 to 17 or a postcode, no key",
    "energy-charts:COUNTRY": "Europe, energy-charts:de, no key",
    "electricitymaps:ZONE": "the world, electricitymaps:DE, key in ELECTRICITYMAPS_TOKEN",
    "watttime:REGION[:TYPE]": "marginal, watttime:CAISO_NORTH, login in WATTTIME_USERNAME and"
    " WATTTIME_PASSWORD",
    "csv:PATH[:COLUMN]": "a recorded trace; COLUMN is a header or a number from 1",
    "simulated": "a built-in daily profile, for trying things out offline",
}
LIVE: dict[str, Callable[..., Live]] = {
    "neso": Neso,
    "energy-charts": EnergyCharts,
    "electricitymaps": ElectricityMaps,
    "watttime": WattTime,
}


def parse(spec: str, zone: str = "local") -> Provider:
    """The provider that `spec` names (see PROVIDERS), for `zone`. Raises SignalError."""
    name, colon, argument = spec.partition(":")
    if spec == "simulated":
        return Simulated(zone)
    if name == "csv" and argument:
        path, column = path_and_column(argument)
        return CsvTrace.read(path, column, zone)
    if name in LIVE and (argument or (name == "neso" and not colon)):
        return LIVE[name](argument, zone=zone)
    known = "; ".join(f"{form} ({meaning})" for form, meaning in PROVIDERS.items())
    raise SignalError(f"no carbon signal named {spec!r}; use one of: {known}")
