"""The command line: `carbon-orchestrator`."""

from __future__ import annotations

import sys
from typing import Any

from cyclopts import App, Group

from carbon_orchestrator import __version__
from carbon_orchestrator.cli import roles
from carbon_orchestrator.cli.audit import audit
from carbon_orchestrator.cli.carbon import carbon
from carbon_orchestrator.cli.completion import completion
from carbon_orchestrator.cli.contract import contract
from carbon_orchestrator.cli.dead_letters import dead_letters
from carbon_orchestrator.cli.faults import STATUSES, told
from carbon_orchestrator.cli.jobs import cancel, job, jobs
from carbon_orchestrator.cli.keys import keys
from carbon_orchestrator.cli.operations import operations
from carbon_orchestrator.cli.operator import doctor
from carbon_orchestrator.cli.replay import replay
from carbon_orchestrator.cli.report import report
from carbon_orchestrator.cli.scaler import scaler
from carbon_orchestrator.cli.signal import signal
from carbon_orchestrator.cli.simulate import simulate
from carbon_orchestrator.cli.submit import submit

#: Titles of the top level, in order, with their commands.
GROUPS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("Jobs", (submit, jobs, job, cancel)),
    ("Carbon", (carbon, report, simulate)),
    ("Operate", (doctor, dead_letters, keys, operations, completion)),
    (
        "Roles",
        (
            roles.up,
            roles.gateway,
            roles.router,
            roles.worker,
            roles.accounting,
            scaler,
            signal,
        ),
    ),
    ("Record", (audit, replay, contract)),
)

app = App(
    name="carbon-orchestrator",
    help="Runs AI and batch jobs when and where they emit the least carbon.",
    help_epilogue="Exit status: "
    + "; ".join(f"{status} {meaning}" for status, meaning in STATUSES.items()),
    version=__version__,
)
for title, commands in GROUPS:
    group = Group.create_ordered(title)
    for command in commands:
        if isinstance(command, App):
            command.group = (group,)
            app.command(command)
        else:
            app.command(command, group=group)


def main() -> None:
    """Entry point; a fault of the user's is one line on stderr and a status of its own."""
    sys.exit(told(app))


if __name__ == "__main__":
    main()
