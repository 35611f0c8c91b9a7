"""The command of those who want to know what it was good for: `report`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.cli.gateway_options import DEFAULT_URL, ApiKeyFile, Url, gateway_client
from carbon_orchestrator.cli.output import Json

if TYPE_CHECKING:
    from carbon_orchestrator.accounting.report import Row


def report(
    *,
    by: str = "day",
    since: Annotated[str | None, Parameter(name="--from")] = None,
    until: Annotated[str | None, Parameter(name="--to")] = None,
    csv: Annotated[
        bool, Parameter(negative="", show_default=False, help="print CSV, every figure")
    ] = False,
    json: Json = False,
    plot: Annotated[Path | None, Parameter(help="draw a picture of the days: .svg, .png")] = None,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Sum up what was emitted, and avoided by waiting.

    Parameters
    ----------
    by
        Groups, by commas: day, project, type, pool, zone.
    since
        First day, such as 2026-01-31.
    until
        Last day.
    """
    from carbon_orchestrator.accounting.report import to_csv
    from carbon_orchestrator.accounting.report_picture import draw
    from carbon_orchestrator.cli import report_text
    from carbon_orchestrator.pictures import PictureError, check

    if csv and json:
        raise Failure("--csv or --json, not both", USAGE)
    if plot is not None:
        try:
            check(plot)
        except PictureError as error:
            raise Failure(str(error), USAGE) from None
    client = gateway_client(url, api_key_file)
    span = {"from": since, "to": until}
    got = client.get("/emissions", **{"by": by, **span})
    rows = report_text.read(got)
    if plot is not None and rows:
        daily = report_text.read(client.get("/emissions", **{"by": "day", **span}))
        try:
            draw(plot, daily, _title(daily, got["simulated"]))
        except OSError as error:
            raise Failure(f"{plot}: {error.strerror}", USAGE) from None
        output.hint(f"drawn: {plot}")
    if json:
        output.write_json(got)
    elif csv:
        output.write(to_csv(rows, tuple(got["by"])).replace("\r\n", "\n").rstrip("\n"))
    elif rows:
        _show(got, rows)
    else:
        output.hint("no attempt of any job has ended" + (" in this time" if since or until else ""))


def _title(rows: Sequence[Row], simulated: bool | None) -> str:
    from carbon_orchestrator.cli import report_text
    from carbon_orchestrator.cli.quantities import mass, percent

    figures = report_text.total(rows).json()
    avoided, baseline = figures["avoided_now_ug"], figures["baseline_now_ug"]
    share = percent(avoided, baseline).lstrip("+")
    said = f"{mass(figures['emitted_now_ug'])} CO2e emitted by {figures['jobs']} jobs, "
    said += f"{mass(avoided)} avoided" + (f" ({share})" if share else "")
    return said + (" - SIMULATED grid" if simulated else "")


def _show(got: Any, rows: Sequence[Row]) -> None:
    from carbon_orchestrator.cli import report_text

    width = shutil.get_terminal_size().columns if output.on_terminal() else None
    columns, lines = report_text.table(got["by"], rows, width)
    output.table(columns, lines)
    if got["simulated"]:
        output.note("\nSIMULATED: the grid's intensities are made up, not measured.", "bold yellow")
    output.write("")
    output.facts(report_text.remarks(report_text.total(rows)))
