"""Commands of those who submit jobs: `submit`, `jobs`, `job`, `cancel`."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from carbon_orchestrator.cli import job_text, output
from carbon_orchestrator.cli.faults import DONE, INTERRUPTED, NOT_WELL, USAGE, Failure
from carbon_orchestrator.cli.gateway_options import (
    DEFAULT_URL,
    ApiKeyFile,
    Url,
    gateway_client,
)
from carbon_orchestrator.cli.output import Json
from carbon_orchestrator.cli.quantities import moment
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Urgency
from carbon_orchestrator.lifecycle import STATES, TERMINAL

if TYPE_CHECKING:
    from carbon_orchestrator.cli.gateway_client import GatewayClient

_PAGE = 500
_MOST_LISTED = 100_000
_MOST_PAYLOAD = 16 << 20
_SHORTEST_POLL, _LONGEST_POLL = 0.2, 2.0
_SILENCE_SECONDS = 60.0
_OUTPUT_LINES = 20


def register(app: App) -> None:
    """Add these commands."""
    for command in (submit, jobs, job, cancel):
        app.command(command)


def submit(
    job_type: Annotated[str, Parameter(name="TYPE")],
    /,
    *,
    urgency: Urgency = "normal",
    payload: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    deadline: str | None = None,
    expected_duration: str | None = None,
    project: str | None = None,
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    timeout: str | None = None,
    max_attempts: int | None = None,
    interruptible: Annotated[bool, Parameter(negative="")] = False,
    zone: Annotated[list[str] | None, Parameter(negative="")] = None,
    idempotency_key: str | None = None,
    wait: Annotated[bool, Parameter(negative="")] = False,
    wait_timeout: str = "24h",
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> int:
    """Submit a job; with --wait, tell each of its steps until it ends.

    The id is printed to standard output, alone. The status with --wait is 0 if the job
    completed, else 1.

    Parameters
    ----------
    job_type
        What to run: a type that the operator configured.
    urgency
        How far it may wait for a greener grid.
    payload
        The job's parameters: a JSON object, @FILE, or - for standard input.
    deadline
        When it must be done: a time such as 2026-01-31T18:00:00Z, or a duration such as 6h.
    expected_duration
        How long it runs, such as 20m; otherwise learned from earlier jobs of its type.
    project
        Whom to account it to.
    label
        NAME=VALUE; may be given several times.
    timeout
        How long one attempt may run.
    max_attempts
        How often it may be tried.
    interruptible
        It may be suspended and resumed.
    zone
        Where it may run, the home zone by default; may be given several times.
    idempotency_key
        Submitting twice under one key gives one job.
    wait
        Follow it until it ends.
    wait_timeout
        How long to follow it.
    """
    import uuid

    import msgspec

    patience = _seconds("--wait-timeout", wait_timeout)
    body = {
        "type": job_type,
        "urgency": urgency,
        "payload": None if payload is None else msgspec.Raw(_payload(payload)),
        "deadline": deadline,
        "expected_duration": expected_duration,
        "project": project,
        "labels": _labels(label or []),
        "timeout": timeout,
        "max_attempts": max_attempts,
        "interruptible": interruptible,
        "zones": zone,
    }
    given = {name: value for name, value in body.items() if value not in (None, {}, False)}
    client = gateway_client(url, api_key_file)
    # With a key of its own a submission whose answer was lost can be repeated, and is one job.
    key = idempotency_key if idempotency_key is not None else f"cli-{uuid.uuid4().hex}"
    created = client.submit(msgspec.json.encode(given), key)
    if not wait:
        if json:
            output.write_json(created)
        else:
            output.write(created["id"])
            output.hint(f"{created['state']}; follow it with: {_follow(created['id'], url)}")
        return DONE
    if not json:
        output.write(created["id"])
    ended = _watch(client, created["id"], patience, None if json else _tell)
    if json:
        output.write_json(ended)
    else:
        _tell_end(ended, client.get("/carbon"))
    return DONE if ended["state"] == "completed" else NOT_WELL


def _seconds(option: str, text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}", USAGE) from None


def _payload(given: str) -> bytes:
    """The JSON object in the argument, a file or standard input, checked but as it stands."""
    import msgspec

    try:
        if given == "-":
            raw = sys.stdin.buffer.read(_MOST_PAYLOAD + 1)
        elif given.startswith("@"):
            with Path(given[1:]).open("rb") as file:
                raw = file.read(_MOST_PAYLOAD + 1)
        else:
            raw = given.encode("utf-8", "surrogateescape")
    except OSError as error:
        raise Failure(f"--payload {given}: {error.strerror}", USAGE) from None
    if len(raw) > _MOST_PAYLOAD:
        raise Failure(f"--payload: over {_MOST_PAYLOAD >> 20} MiB", USAGE)
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(f"--payload: not JSON ({error})", USAGE) from None
    if not isinstance(value, dict):
        raise Failure("--payload: must be a JSON object, such as '{\"rows\": 1000}'", USAGE)
    return raw


def _labels(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    for (name, equals, _), text in zip(pairs, given, strict=True):
        if not name or not equals:
            raise Failure(f"--label {text}: write NAME=VALUE", USAGE)
    return {name: value for name, _, value in pairs}


def _follow(job_id: str, url: str) -> str:
    where = "" if url == os.environ.get("CARBON_URL", DEFAULT_URL) else f" --url {url}"
    return f"carbon-orchestrator job {job_id}{where}"


def _watch(
    client: GatewayClient, job_id: str, patience: float, tell: Callable[[Any], None] | None
) -> Any:
    """The job once it has ended, each new step told before. A gateway that is away for a
    while is waited for."""
    from carbon_orchestrator.cli.gateway_client import Unreachable

    deadline = time.monotonic() + patience
    heard = time.monotonic()
    told: set[tuple[Any, ...]] = set()
    pause = _SHORTEST_POLL
    state = "submitted"
    try:
        while True:
            try:
                job = client.job(job_id)
            except Unreachable:
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    raise
            else:
                heard, state = time.monotonic(), job["state"]
                fresh = [step for step in job["timeline"] if job_text.step_key(step) not in told]
                for step in fresh:
                    told.add(job_text.step_key(step))
                    if tell is not None:
                        tell(step)
                if state in TERMINAL:
                    return job
                pause = _SHORTEST_POLL if fresh else min(pause * 1.5, _LONGEST_POLL)
            left = deadline - time.monotonic()
            if left <= 0:
                follow = _follow(job_id, client.url)
                raise Failure(f"{job_id} is {state} and goes on; follow it with: {follow}")
            time.sleep(min(pause, left))
    except KeyboardInterrupt:
        follow = _follow(job_id, client.url)
        raise Failure(f"{job_id} goes on; follow it with: {follow}", INTERRUPTED) from None


def _tell(step: Any) -> None:
    """One step as a line, broken under itself where the terminal is too narrow."""
    name = f"{step['event']:<11}"
    opening = f"{moment(step['at'])}  {name}"
    text = output.printable(job_text.step_text(step))
    if output.on_terminal():
        width = max(shutil.get_terminal_size().columns, 60)
        indent = " " * len(opening)
        text = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
        text = text[len(opening) :]
    shown = f"{opening[: -len(name)]}{output.coloured(name, step['event'])}{text}"
    output.write(shown.rstrip())


def _tell_end(job: Any, grid: Any) -> None:
    if job["state"] != "completed" and job["runs"]:
        _output_tail(job["runs"][-1])
    said = [("outcome", job["state"]), ("why", job_text.why(job.get("reason")))]
    output.facts([*said, *job_text.amounts(job, bool(grid.get("simulated")))])


def jobs(
    *,
    state: Annotated[list[str] | None, Parameter(negative="")] = None,
    limit: int = 50,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """List jobs, the latest first.

    Parameters
    ----------
    state
        Only jobs in this state; several by commas, or by giving it again.
    limit
        How many at most.
    """
    if not 1 <= limit <= _MOST_LISTED:
        raise Failure(f"--limit must be 1 to {_MOST_LISTED}", USAGE)
    client = gateway_client(url, api_key_file)
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = client.get(
            "/jobs",
            state=",".join(state) if state else None,
            limit=min(limit - len(found), _PAGE),
            cursor=cursor,
        )
        found += page["jobs"]
        cursor = page["next"]
        if cursor is None or len(found) >= limit:
            break
    if json:
        output.write_json({"jobs": found, "next": cursor})
        return
    grid = client.get("/carbon")
    if found:
        output.table(job_text.JOB_COLUMNS, job_text.job_rows(found, grid["clock"]["now"]))
    elif state:
        output.hint(f"no jobs are {' or '.join(state)}; states are {', '.join(STATES)}")
    else:
        output.hint("no jobs yet; submit one with: carbon-orchestrator submit analytics")
    if found and output.on_terminal():
        output.note(f"\nThe grid's clock: {job_text.clock_note(grid)}")
    if cursor is not None:
        output.hint(f"there are more; see them with --limit {limit * 4}")


def job(
    job_id: str, /, *, json: Json = False, url: Url = DEFAULT_URL, api_key_file: ApiKeyFile = None
) -> None:
    """Show all about one job: its plan, the reason of each decision, runs, energy, emissions.

    Parameters
    ----------
    job_id
        Its id, as `submit` and `jobs` print it.
    """
    client = gateway_client(url, api_key_file)
    shown = client.job(job_id)
    if json:
        output.write_json(shown)
        return
    grid = client.get("/carbon")
    output.facts(job_text.head(shown, grid))
    output.title("Timeline")
    output.table(job_text.TIMELINE_COLUMNS, job_text.timeline_rows(shown))
    if shown["runs"]:
        output.title("Runs")
        output.table(job_text.RUN_COLUMNS, job_text.run_rows(shown))
        _output_tail(shown["runs"][-1])
    output.note(f"\nTimes are UTC on the grid's clock, now {job_text.clock_note(grid)}")


def _output_tail(run: Any) -> None:
    text = run.get("output", "").rstrip("\n")
    if not text:
        return
    lines = text.split("\n")
    size = run.get("output_bytes", 0)
    part = f", the last {_OUTPUT_LINES} lines" if len(lines) > _OUTPUT_LINES else ""
    output.title(f"Output of attempt {run['attempt']} ({size} bytes{part})")
    output.write("\n".join(f"  {output.printable(line)}" for line in lines[-_OUTPUT_LINES:]))


def cancel(
    job_id: str, /, *, json: Json = False, url: Url = DEFAULT_URL, api_key_file: ApiKeyFile = None
) -> None:
    """Cancel a job that has not ended; one that runs is asked to end, then made to.

    Parameters
    ----------
    job_id
        Its id.
    """
    asked = gateway_client(url, api_key_file).cancel(job_id)
    if json:
        output.write_json(asked)
        return
    output.write(f"cancellation of {job_id} requested; it was {asked['state']}")
    output.hint(f"see the outcome with: {_follow(job_id, url)}")
