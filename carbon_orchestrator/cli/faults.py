"""Exit statuses, and how faults are told: one line that says what to do, no traceback.

0 done; 1 done, but what was asked about is not well (a failed job, a failing check); 2 wrong
usage or configuration; 3 the server or gateway cannot be reached; 130 interrupted.
"""

from __future__ import annotations

import sys

from cyclopts import App

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.data_dir import DataDirError
from carbon_orchestrator.signal.provider import SignalError
from streams.embedded import EmbeddedError
from streams.errors import CommitUnknown, is_transient

DONE, NOT_WELL, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


class Failure(Exception):
    """Ends the program with this status, after the message on stderr (if any)."""

    def __init__(self, message: str = "", status: int = NOT_WELL) -> None:
        super().__init__(message)
        self.status = status


def told(app: App, tokens: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        status = app(tokens)
        return status if isinstance(status, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return DONE
    except BaseException as error:
        fault = _only(error)
        if isinstance(fault, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(fault, SystemExit):
            raise fault from None
        status = _status(fault)
        if status is None:
            raise
        if str(fault):
            print(f"carbon-orchestrator: {fault}", file=sys.stderr)  # noqa: T201
        return status


def _status(fault: BaseException) -> int | None:
    if isinstance(fault, Failure):
        return fault.status
    if isinstance(fault, ConfigError | DataDirError | EmbeddedError | SignalError):
        return USAGE
    if isinstance(fault, CommitUnknown) or is_transient(fault):
        return UNREACHABLE
    return USAGE if isinstance(fault, OSError) else None


def _only(error: BaseException) -> BaseException:
    """The one fault inside nested exception groups, if there is just one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
