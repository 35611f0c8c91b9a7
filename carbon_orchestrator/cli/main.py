"""The command line: `carbon-orchestrator`."""

from __future__ import annotations

import sys
from typing import Any

from cyclopts import App, Group

from carbon_orchestrator import __version__
from carbon_orchestrator.cli.audit import audit
from carbon_orchestrator.cli.carbon import carbon
from carbon_orchestrator.cli.completion import completion
from carbon_orchestrator.cli.contract import contract
from carbon_orchestrator.cli.dead_letters import dead_letters
from carbon_orchestrator.cli.faults import STATUSES, told
from carbon_orchestrator.cli.jobs import cancel, job, jobs
from carbon_orchestrator.cli.keys import keys
from carbon_orchestrator.cli.logs import logs
from carbon_orchestrator.cli.operations import operations
from carbon_orchestrator.cli.operator import doctor
from carbon_orchestrator.cli.replay import replay
from carbon_orchestrator.cli.report import report
from carbon_orchestrator.cli.roles import accounting, gateway, router, up, worker
from carbon_orchestrator.cli.scaler import scaler
from carbon_orchestrator.cli.signal import signal
from carbon_orchestrator.cli.simulate import simulate
from carbon_orchestrator.cli.submit import submit
from carbon_orchestrator.cli.watch import watch

#: Titles of the top level with their commands, in order.
GROUPS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("Jobs", (submit, jobs, job, logs, cancel, watch)),
    ("Carbon", (carbon, report, simulate)),
    ("Operate", (doctor, dead_letters, keys, operations, completion)),
    ("Roles", (up, gateway, router, worker, accounting, scaler, signal)),
    ("Record", (audit, replay, contract)),
)

app = App(
    name="carbon-orchestrator",
    help="Runs AI and batch jobs when and where they emit the least carbon.",
    help_epilogue="Exit status: "
    + "; ".join(f"{status} {meaning}" for status, meaning in STATUSES.items())
    + ".",
    version=__version__,
)
for _title, _commands in GROUPS:
    _group = Group.create_ordered(_title)
    for _place, _command in enumerate(_commands):
        if isinstance(_command, App):
            _command.group, _command.sort_key = (_group,), _place
            app.command(_command)
        else:
            app.command(_command, group=_group, sort_key=_place)
_options = Group.create_ordered("Options")
for _flag in ("--help", "--version"):
    app[_flag].group = (_options,)


def main() -> None:
    """Entry point; a fault of the user's is one line on stderr and a status of its own."""
    sys.exit(told(app))


if __name__ == "__main__":
    main()
