"""Build hook: a wheel or source distribution has all that the dashboard needs, or is not made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NEEDED = ("uPlot.esm.js", "uPlot.min.css", "swagger-ui-bundle.js", "swagger-ui.css")


class CompletePackage(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Raises RuntimeError where files are missing. An editable install does without."""
        vendor = Path(self.root) / "carbon_orchestrator" / "dashboard" / "vendor"
        missing = [name for name in _NEEDED if not (vendor / name).is_file()]
        if missing and version != "editable":
            raise RuntimeError(
                f"{', '.join(missing)} not in {vendor}: run scripts/assets.sh before the build"
            )
