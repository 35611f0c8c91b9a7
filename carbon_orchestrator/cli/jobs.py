"""Commands that show and end jobs: `jobs`, `job`, `cancel`."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from carbon_orchestrator.cli import following, job_text, output
from carbon_orchestrator.cli.faults import DONE, NOT_WELL, USAGE, Failure
from carbon_orchestrator.cli.gateway_options import (
    DEFAULT_URL,
    ApiKeyFile,
    Url,
    gateway_client,
    job_path,
)
from carbon_orchestrator.cli.output import Json
from carbon_orchestrator.cli.submit import head
from carbon_orchestrator.client.errors import Conflict, NotFound
from carbon_orchestrator.lifecycle import STATES

_PAGE = 500
_MOST_LISTED = 100_000
Several = Annotated[list[str] | None, Parameter(negative="")]


def jobs(
    *,
    state: Several = None,
    job_type: Annotated[list[str] | None, Parameter(name="--type", negative="")] = None,
    pool: Several = None,
    project: Several = None,
    urgency: Several = None,
    since: Annotated[str | None, Parameter(name="--from")] = None,
    until: Annotated[str | None, Parameter(name="--to")] = None,
    sort: str | None = None,
    limit: int = 50,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """List jobs, the latest first.

    Where several values may be given, it is by commas, or by giving the option again.

    Parameters
    ----------
    state
        Only jobs in these states.
    job_type
        Only jobs of these types.
    pool
        Only jobs that are or were last on these pools: fast, eco.
    project
        Only jobs of these projects.
    urgency
        Only jobs of these urgencies.
    since
        Only jobs submitted at this time or later, such as 2026-01-31T18:00Z.
    until
        Only jobs submitted before this time.
    sort
        -submitted_at: the latest first; submitted_at: the earliest; planned_start: deferred jobs,
        the next to start first.
    limit
        How many at most.
    """
    if not 1 <= limit <= _MOST_LISTED:
        raise Failure(f"--limit must be 1 to {_MOST_LISTED}", USAGE)
    filters = {
        "state": _several(state),
        "type": _several(job_type),
        "pool": _several(pool),
        "project": _several(project),
        "urgency": _several(urgency),
        "submitted_from": since,
        "submitted_to": until,
    }
    client = gateway_client(url, api_key_file)
    found: list[Any] = []
    cursor: str | None = None
    while True:
        size = min(limit - len(found), _PAGE)
        page = client.get("/jobs", **filters, sort=sort, limit=size, cursor=cursor)
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
    elif any(filters.values()):
        asked = ", ".join(f"{name}={value}" for name, value in filters.items() if value)
        output.hint(f"no jobs match {asked}; states are {', '.join(STATES)}")
    else:
        output.hint("no jobs yet; submit one with: carbon-orchestrator submit analytics")
    if found and output.on_terminal():
        output.note(f"\nThe grid's clock: {job_text.clock_note(grid)}")
    if cursor is not None:
        output.hint(f"there are more; see them with --limit {limit * 4}")


def job(
    job_id: str, /, *, json: Json = False, url: Url = DEFAULT_URL, api_key_file: ApiKeyFile = None
) -> None:
    """Show all about a job: plan, reasons, runs, emissions.

    Parameters
    ----------
    job_id
        Its id, as `submit` and `jobs` print it.
    """
    client = gateway_client(url, api_key_file)
    shown = client.get(job_path(job_id))
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
        following.output_tail(shown["runs"][-1])
    output.note(f"\nTimes are UTC on the grid's clock, now {job_text.clock_note(grid)}")
    if shown["state"] == "failed":
        again = following.command(shown["id"], client.url, "submit --like")
        output.hint(f"submit it again with: {again}")


def cancel(
    *job_id: str, json: Json = False, url: Url = DEFAULT_URL, api_key_file: ApiKeyFile = None
) -> int:
    """Cancel jobs; one that runs is asked to end, then made to.

    Parameters
    ----------
    job_id
        Its id; there may be several.
    """
    if not job_id:
        raise Failure("name the jobs to cancel, by their ids", USAGE)
    client = gateway_client(url, api_key_file)
    refused = 0
    for each in job_id:
        try:
            asked = client.cancel(each)
        except (NotFound, Conflict) as error:
            if len(job_id) == 1:
                raise
            refused += 1
            output.hint(f"{output.printable(each)}: {output.printable(str(error))}")
            continue
        if asked.state == "cancelled":
            if len(job_id) == 1:
                raise Failure("the job is cancelled already", NOT_WELL)
            refused += 1
            output.hint(f"{asked.id}: it is cancelled already")
        elif json:
            output.write_json(head(asked))
        else:
            output.write(f"cancellation of {asked.id} requested; it was {asked.state}")
    if len(job_id) == 1 and not json:
        output.hint(f"see the outcome with: {following.command(job_id[0], client.url)}")
    return NOT_WELL if refused else DONE


def _several(given: list[str] | None) -> str | None:
    return ",".join(given) if given else None
