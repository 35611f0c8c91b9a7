"""Acts of operators, put on record in the very commit that carries them out."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping

from carbon_orchestrator.events import OperatorActed
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Transaction

SOURCE = "operator"
_LONGEST = 200  # characters of a name, and of each detail


def who() -> str:
    """Who acts: $CARBON_OPERATOR, else user@host."""
    if given := os.environ.get("CARBON_OPERATOR", "").strip():
        return given[:_LONGEST]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:_LONGEST]


def acted(
    topology: Topology,
    name: str,
    action: str,
    subject: str,
    *,
    removed: str | None = None,
    detail: Mapping[str, str] | None = None,
) -> Transaction:
    """A transaction that says so on `operations`, to be absorbed by the act's own.

    `name`: who; `action`, `subject`, `removed` and `detail` as in `operator.acted`.
    """
    event = OperatorActed(
        who=name,
        action=action,
        subject=subject,
        removed=removed,
        detail={key: value[:_LONGEST] for key, value in (detail or {}).items()},
    )
    return Transaction().emit(topology.operations, envelope(event, SOURCE))
