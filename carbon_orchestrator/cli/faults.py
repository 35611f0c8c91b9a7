"""Exit statuses, and how faults are told: one line that says what to do, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from cyclopts import App, CycloptsError

from carbon_orchestrator.cli.output import printable
from carbon_orchestrator.client.errors import InvalidRequest, OrchestratorError, Unavailable
from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.data_dir import DataDirError
from carbon_orchestrator.gateway.door.exposed import Exposed
from carbon_orchestrator.signal.provider import SignalError
from streams.embedded import EmbeddedError
from streams.errors import CommitUnknown, Forbidden, Refused, is_transient

DONE, NOT_WELL, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES: Mapping[int, str] = {
    DONE: "done",
    NOT_WELL: "done, but what was asked about is not well: a failed job, a failing check",
    USAGE: "wrong usage, configuration or input; nothing was done that is not said",
    UNREACHABLE: "the gateway or stream server cannot be reached, or has no room; try again",
    INTERRUPTED: "interrupted",
}

_HINT = " (`carbon-orchestrator doctor --acl` prints what each role needs)"


class Failure(Exception):
    """Ends the program with this status, after the message on stderr (if any)."""

    def __init__(self, message: str = "", status: int = NOT_WELL) -> None:
        super().__init__(message)
        self.status = status


def told(app: App, tokens: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        given = _piped(sys.argv[1:] if tokens is None else tokens)
        status = app(
            given,
            result_action="return_value",
            print_error=False,
            exit_on_error=False,
            verbose=False,
        )
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
        if text := _text(fault):
            # It may be the words of a server, or of whoever answers in its place.
            text = printable(text, lines=True)
            print(f"carbon-orchestrator: {text}", file=sys.stderr)  # noqa: T201
        return status


def _piped(tokens: list[str]) -> list[str]:
    """`submit -` reads standard input, where a lone - would be no option."""
    if tokens[:2] == ["submit", "-"]:
        return ["submit", "--file", *tokens[1:]]
    return tokens


def _text(fault: BaseException) -> str:
    text = str(fault)
    if isinstance(fault, Forbidden):
        return f"{text}{_HINT}"
    if isinstance(fault, Unavailable) and fault.retry_after:
        return f"{text} (try again in {fault.retry_after:g} s)"
    if isinstance(fault, CycloptsError):
        command = " ".join(["carbon-orchestrator", *(fault.command_chain or ())])
        return f"{text} (see: {command} --help)"
    return text


def _status(fault: BaseException) -> int | None:
    if isinstance(fault, Failure):
        return fault.status
    if isinstance(fault, OrchestratorError):
        return status_of(fault)
    if isinstance(fault, CycloptsError):
        return USAGE
    if isinstance(fault, ConfigError | DataDirError | EmbeddedError | Exposed | SignalError):
        return USAGE
    if isinstance(fault, CommitUnknown | Refused) or is_transient(fault):
        return UNREACHABLE
    return USAGE if isinstance(fault, OSError) else None


def status_of(error: OrchestratorError) -> int:
    """Of a gateway's refusal."""
    if isinstance(error, InvalidRequest) or error.kind == "idempotency-key-reused":
        return USAGE
    foreign = error.status is not None and not error.kind
    return UNREACHABLE if isinstance(error, Unavailable) or foreign else NOT_WELL


def _only(error: BaseException) -> BaseException:
    """The one fault inside nested exception groups, if there is just one, or a refusal."""
    if isinstance(error, BaseExceptionGroup):
        refused = error.subgroup(Refused)
        found = (error if refused is None else refused).exceptions
        if refused is not None or len(found) == 1:
            return _only(found[0])
    return error
