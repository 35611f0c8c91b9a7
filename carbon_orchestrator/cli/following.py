"""A job that is followed to its end: each step as a line, and on a terminal, what it is doing."""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carbon_orchestrator.cli import job_text, output
from carbon_orchestrator.cli.faults import DONE, INTERRUPTED, NOT_WELL, Failure
from carbon_orchestrator.cli.gateway_options import DEFAULT_URL, job_path
from carbon_orchestrator.cli.grid_time import GridTime
from carbon_orchestrator.cli.quantities import moment
from carbon_orchestrator.lifecycle import TERMINAL

if TYPE_CHECKING:
    from carbon_orchestrator import SyncClient

_SHORTEST_POLL, _LONGEST_POLL = 0.2, 2.0
_OUTPUT_LINES = 20


def command(job_id: str, url: str, what: str = "job") -> str:
    """What shows the job later, or does something else with it."""
    where = "" if url == os.environ.get("CARBON_URL", DEFAULT_URL) else f" --url {url}"
    return f"carbon-orchestrator {what} {job_id}{where}"


def follow(client: SyncClient, job_id: str, patience: float, json: bool) -> int:
    """Until it ends, for `patience` seconds at most. Raises Failure."""
    ended = _watched(client, job_id, patience, silent=json)
    if json:
        output.write_json(ended)
    else:
        _tell_end(ended, client.get("/carbon"))
    return DONE if ended["state"] == "completed" else NOT_WELL


def _watched(client: SyncClient, job_id: str, patience: float, *, silent: bool) -> Any:
    """The job once it has ended, each new step told before."""
    deadline = time.monotonic() + patience
    told: set[tuple[Any, ...]] = set()
    pause = _SHORTEST_POLL
    grid = GridTime(client.get("/carbon"))
    try:
        with _status(grid, silent=silent) as status:
            while True:
                job = client.get(job_path(job_id))
                fresh = [step for step in job["timeline"] if job_text.step_key(step) not in told]
                told.update(map(job_text.step_key, fresh))
                status.append(job)
                if not silent:
                    for step in fresh:
                        _tell(step)
                if job["state"] in TERMINAL:
                    return job
                pause = _SHORTEST_POLL if fresh else min(pause * 1.5, _LONGEST_POLL)
                left = deadline - time.monotonic()
                if left <= 0:
                    goes_on = f"{job_id} is {job['state']} and goes on"
                    raise Failure(f"{goes_on}; follow it with: {command(job_id, client.url)}")
                time.sleep(min(pause, left))
    except KeyboardInterrupt:
        later = command(job_id, client.url)
        raise Failure(f"{job_id} goes on; follow it with: {later}", INTERRUPTED) from None


@contextmanager
def _status(grid: GridTime, *, silent: bool) -> Iterator[list[Any]]:
    """On a terminal, the last line says what the job that was last put into the list is doing,
    to the second; what is written meanwhile stands above."""
    seen: list[Any] = []
    if silent or not output.interactive():
        yield seen
        return
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        told = job_text.doing(seen[-1], grid.now()) if seen else ""
        return Text(output.printable(told), "dim", overflow="ellipsis", no_wrap=True)

    with Live(get_renderable=line, console=output.console(), transient=True):
        yield seen


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
        output_tail(job["runs"][-1])
    said = [("outcome", job["state"]), ("why", job_text.why(job.get("reason")))]
    output.facts([*said, *job_text.amounts(job, bool(grid.get("simulated")))])


def output_tail(run: Any) -> None:
    """The end of what an attempt wrote."""
    text = run.get("output", "").rstrip("\n")
    if not text:
        return
    lines = text.split("\n")
    size = run.get("output_bytes", 0)
    part = f", the last {_OUTPUT_LINES} lines" if len(lines) > _OUTPUT_LINES else ""
    output.title(f"Output of attempt {run['attempt']} ({size} bytes{part})")
    output.write("\n".join(f"  {output.printable(line)}" for line in lines[-_OUTPUT_LINES:]))
