"""`submit`: one job, or many from a file or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import DONE, USAGE, Failure
from carbon_orchestrator.cli.gateway_options import (
    DEFAULT_URL,
    ApiKeyFile,
    Url,
    gateway_client,
    job_path,
)
from carbon_orchestrator.cli.job_text import plan_facts
from carbon_orchestrator.cli.output import Json
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Urgency

if TYPE_CHECKING:
    from carbon_orchestrator import Job, SyncClient

#: What another job has of one that it is like. A deadline was that one's.
_ASKED = (
    *("type", "urgency", "payload", "expected_duration", "project", "labels", "timeout"),
    *("max_attempts", "interruptible", "zones"),
)
_MOST_PAYLOAD = 16 << 20
#: A gateway that restarts while a job is followed is waited for.
_WAIT_PATIENCE = 60.0


def submit(
    job_type: Annotated[str | None, Parameter(name="TYPE")] = None,
    /,
    *,
    urgency: Urgency | None = None,
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
    like: str | None = None,
    file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    wait: Annotated[bool, Parameter(negative="")] = False,
    wait_timeout: str = "24h",
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> int:
    """Submit a job, or many from a file; --wait follows them.

    Ids are printed to standard output, alone. The status with --wait is 0 if all completed,
    else 1; 2 if a job was refused.

    Parameters
    ----------
    job_type
        What to run: a type that the operator configured. - stands for --file -.
    urgency
        How far it may wait for a greener grid; by default normal.
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
        Submitting twice under one key gives one job. With --file, each job gets it with its
        place in the file, so that the same file can be sent again after an interruption.
    like
        The id of a job to submit again, as it was but for its deadline and what is given besides.
    file
        Many jobs: a JSON array, or JSON objects one a line (- for standard input), each with the
        fields of the HTTP interface, such as {"type": "training", "deadline": "6h"}.
    dry_run
        Only say what would be decided now.
    wait
        Follow it until it ends.
    wait_timeout
        How long to follow it.
    """
    import msgspec

    patience = _seconds("--wait-timeout", wait_timeout)
    job: dict[str, Any] = {
        "urgency": urgency,
        "payload": None if payload is None else msgspec.Raw(_payload(payload)),
        "deadline": deadline,
        "expected_duration": expected_duration,
        "project": project,
        "labels": _labels(label or []) or None,
        "timeout": timeout,
        "max_attempts": max_attempts,
        "interruptible": interruptible or None,
        "zones": zone,
    }
    given = {name: value for name, value in job.items() if value is not None}
    if (job_type is None and like is None) == (file is None):
        raise Failure(
            "name one of these: the TYPE of a job, one to submit another --like, a --file of many",
            USAGE,
        )
    client = gateway_client(url, api_key_file, **({"patience": _WAIT_PATIENCE} if wait else {}))
    if file is not None:
        from carbon_orchestrator.cli.bulk_submit import submit_file

        if given or dry_run:
            option = "dry-run" if dry_run else min(given).removesuffix("s").replace("_", "-")
            raise Failure(f"--{option} is of one job: with --file, each has its own fields", USAGE)
        return submit_file(client, file, idempotency_key, patience if wait else None, json)
    if like is not None:
        given = _again(client, like) | given
    job_type = job_type or given["type"]
    given.pop("type", None)
    if dry_run:
        return _plan(client, {"type": job_type, **given}, json)
    return _one(client, job_type, given, idempotency_key, patience if wait else None, json)


def _again(client: SyncClient, job_id: str) -> dict[str, Any]:
    """What was asked for, of a job on record."""
    shown = client.get(job_path(job_id))
    return {name: shown[name] for name in _ASKED if shown[name]}


def _plan(client: SyncClient, job: dict[str, Any], json: bool) -> int:
    """What would be decided."""
    import msgspec

    plan = client.plan(job)
    if json:
        output.write_json(msgspec.to_builtins(plan))
    else:
        output.facts(plan_facts(msgspec.to_builtins(plan), client.get("/carbon")))
        output.hint("nothing was submitted: leave out --dry-run to do it")
    return DONE


def _one(
    client: SyncClient,
    job_type: str,
    given: dict[str, Any],
    key: str | None,
    patience: float | None,
    json: bool,
) -> int:
    """Submit it; follow it for `patience` seconds, if there are any."""
    from carbon_orchestrator import Unavailable
    from carbon_orchestrator.cli import following

    try:
        made = client.submit(job_type, **given, key=key)
    except Unavailable as error:
        if not error.lost:
            raise
        again = f"submit it again with --idempotency-key {error.key}"
        raise Failure(f"{error}; whether it took the job is unknown: {again}", 3) from None
    if patience is not None:
        if not json:
            output.write(made.id)
        return following.follow(client, made.id, patience, json)
    if json:
        output.write_json(head(made))
    else:
        output.write(made.id)
        output.hint(f"{made.state}; follow it with: {following.command(made.id, client.url)}")
    return DONE


def head(job: Job) -> dict[str, Any]:
    """What is known of a job once it is submitted."""
    import msgspec

    names = ("id", "state", "type", "urgency", "submitted_at", "deadline")
    told: dict[str, Any] = msgspec.to_builtins(job)
    return {name: told[name] for name in names}


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
