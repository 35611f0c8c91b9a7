"""The command line: `carbon-orchestrator`."""

from __future__ import annotations

import sys

from cyclopts import App

from carbon_orchestrator import __version__
from carbon_orchestrator.cli import (
    contract,
    jobs,
    operator,
    replay,
    report,
    roles,
    signal,
    simulate,
)
from carbon_orchestrator.cli.audit import audit
from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.keys import keys
from carbon_orchestrator.cli.scaler import scaler

app = App(
    name="carbon-orchestrator",
    help="Runs AI and batch jobs when and where they emit the least carbon.",
    version=__version__,
)
roles.register(app)
signal.register(app)
jobs.register(app)
report.register(app)
operator.register(app)
simulate.register(app)
replay.register(app)
contract.register(app)
app.command(keys)
app.command(scaler)
app.command(audit)


def main() -> None:
    """Entry point; a fault of the user's is one line on stderr and a status of its own."""
    sys.exit(told(app))


if __name__ == "__main__":
    main()
