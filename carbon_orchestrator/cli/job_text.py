"""A job and the list of jobs, as the gateway tells them, put into rows. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbon_orchestrator.cli.charts import Bounds
from carbon_orchestrator.cli.output import STATES, Column
from carbon_orchestrator.cli.quantities import duration, energy, mass, moment, percent, until
from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.lifecycle import TERMINAL

_POOL_NAMES = {"fast": "FAST", "eco": "ECO"}
_PREFIX = re.compile(r"^(deferred|dispatched on (FAST|ECO)): ")
_LONGEST_PAYLOAD = 400

JOB_COLUMNS = (
    Column("id"),
    Column("state", styles=STATES),
    Column("type"),
    Column("urgency", spare=4),
    Column("pool", spare=2),
    Column("starts", spare=1),
    Column("due", spare=3),
    Column("why, or what came of it", flexible="crops"),
)


def pool_name(pool: str | None, zone: str | None = None) -> str:
    """Such as "ECO", or "ECO in FR" away from home."""
    name = _POOL_NAMES.get(pool or "", pool or "")
    return f"{name} in {zone}" if name and zone else name


def why(reason: str | None) -> str:
    """A reason without the words that its state or step says already."""
    return _PREFIX.sub("", reason or "")


def job_rows(jobs: Sequence[Mapping[str, Any]], now: str) -> Iterator[list[str]]:
    """Rows of JOB_COLUMNS; starts and due count from `now` on the grid clock."""
    for job in jobs:
        waiting, deadline = job["state"] not in TERMINAL, job.get("deadline")
        planned = job.get("planned_start")
        pool, zone = job.get("pool"), None
        if planned:
            pool, zone = job.get("planned_pool"), job.get("planned_zone")
        yield [
            job["id"],
            job["state"],
            job["type"],
            job["urgency"],
            pool_name(pool, zone),
            _briefly(planned, now) if planned else "",
            _briefly(deadline, now) if deadline and waiting else "",
            _came_of_it(job) if job["state"] == "completed" else why(job.get("reason")),
        ]


def _came_of_it(job: Mapping[str, Any]) -> str:
    return f"{mass(job['emissions_ug'])} CO2e, {energy(job['energy_mj'])}"


def _briefly(time: str, now: str) -> str:
    """ "3h20m", or "now" and "late" around and after it."""
    ahead = parse_time(time) - parse_time(now)
    return duration(ahead) if ahead > 0 else "now" if ahead > -60_000 else "late"


def clock_note(grid: Mapping[str, Any]) -> str:
    """The grid's time, its intensity and where it comes from, in one line."""
    speed = grid["clock"]["speed"]
    pace = "" if speed == 1 else f" (an hour of it takes {duration(3_600_000 / speed)})"
    return f"{time_note(grid)}{pace}; {intensity_note(grid)}"


def time_note(grid: Mapping[str, Any]) -> str:
    """The grid's time, and how fast it goes."""
    clock = grid["clock"]
    text = f"{moment(clock['now'])[:16]} UTC"
    return text if clock["speed"] == 1 else f"{text} at {clock['speed']:g}x"


def intensity_note(grid: Mapping[str, Any]) -> str:
    """The grid's intensity, its band, and where it comes from."""
    if grid.get("intensity") is None:
        return "no carbon signal"
    text = f"{grid['intensity']:.0f} gCO2e/kWh"
    band = grid.get("band")
    # A band is left only when its limit is passed by a margin.
    plain = Bounds(grid.get("low"), grid.get("high")).band(grid["intensity"])
    still = plain not in ("", band)
    text += f" ({'still ' if still else ''}{band})" if band else " (too old to be used)"
    return text + (", SIMULATED" if grid.get("simulated") else f", {grid['source']}")


def head(job: Mapping[str, Any], grid: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of what there is to say about a job before its history."""
    now = grid["clock"]["now"]
    yield "job", job["id"]
    yield "state", job["state"]
    yield "what", f"{job['type']}, {job['urgency']}, project {job['project']}"
    yield "labels", ", ".join(f"{name}={value}" for name, value in job["labels"].items())
    if job["payload"]:
        text = json.dumps(job["payload"], ensure_ascii=False)
        yield "payload", text if len(text) <= _LONGEST_PAYLOAD else text[:_LONGEST_PAYLOAD] + "…"
    if progress := job.get("progress"):
        yield "progress", progress_text(progress, now)
    yield "submitted", f"{moment(job['submitted_at'])} UTC"
    yield "deadline", _deadline(job, now)
    yield "pool", pool_name(job["pool"], job.get("zone"))
    if planned := job.get("planned_start"):
        place = pool_name(job.get("planned_pool"), job.get("planned_zone"))
        on = f" on {place}" if place else ""
        yield "plan", f"starts {moment(planned)} UTC ({until(planned, now)}){on}"
        if latest := job.get("latest_start"):
            yield "at latest", f"{moment(latest)} UTC ({until(latest, now)})"
    if job["replans"] > 1:
        yield "re-planned", f"{job['replans'] - 1} times"
    yield "why", why(job.get("reason"))
    yield "suspended", "; ".join(suspensions(job))
    if job["failures"]:
        yield "failures", f"{job['failures']} of {job['attempts']} attempts"
    yield from amounts(job, bool(grid.get("simulated")))


def progress_text(progress: Mapping[str, Any], now: str) -> str:
    """Such as "42 %, epoch 3 of 7, done in 12m05s"."""
    fraction, message = progress.get("fraction"), progress.get("message")
    parts = [] if fraction is None else [f"{100 * fraction:.0f} %"]
    parts += [message] if message else []
    if finish := progress.get("finish_at"):
        parts.append(f"done {until(finish, now)}" if finish > now else "done any moment")
    return ", ".join(parts)


def doing(job: Mapping[str, Any], now: str) -> str:
    """What a job that has not ended is doing, in a line."""
    state, planned = str(job["state"]), job.get("planned_start")
    if state == "running":
        begun = [step["at"] for step in job.get("timeline", ()) if step["event"] == "started"]
        ran = f" for {duration(parse_time(now) - parse_time(begun[-1]))}" if begun else ""
        progress = progress_text(job["progress"], now) if job.get("progress") else ""
        return f"running{ran}{f': {progress}' if progress else ''}"
    if not planned:
        return state
    place = pool_name(job.get("planned_pool"), job.get("planned_zone"))
    where = f" on {place}" if place else ""
    starts = f"starts {until(planned, now)}" if planned > now else "starts any moment"
    return f"{state}: {starts}{where} ({moment(planned)[:16]} UTC)"


def plan_facts(plan: Mapping[str, Any], grid: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of what would be decided about a job."""
    now, home = grid["clock"]["now"], grid["zones"][0]
    at_once = plan["would"] == "dispatch"
    yield "would", "run at once" if at_once else "wait"
    zone = plan.get("zone")
    yield "on", pool_name(plan.get("pool"), None if zone == home else zone)
    times = (("starts", "start"), ("at latest", "latest_start"), ("due", "deadline"))
    for name, field in times[at_once:]:
        if time := plan.get(field):
            yield name, f"{moment(time)} UTC ({until(time, now)})"
    for name, field in (("now", "intensity"), ("expected", "expected_intensity")):
        if plan.get(field) is not None:
            band = f" ({plan['band']})" if name == "now" and plan.get("band") else ""
            label = ", SIMULATED" if grid.get("simulated") else ""
            yield name, f"{plan[field]:.0f} gCO2e/kWh{band}{label}"
    yield "policy", plan.get("policy") or ""
    yield "why", why(plan.get("reason"))


def suspensions(job: Mapping[str, Any]) -> Iterator[str]:
    """Such as "2026-01-31 14:02, resumed 18:30 on ECO" for each time; where it has not been
    resumed, the first half."""
    since, place = "", ""
    for step in job["timeline"]:
        if step["event"] == "suspended":
            since = moment(step["at"])[:16]
        elif step["event"] == "dispatched":
            place = pool_name(step["pool"], step.get("zone"))
        elif step["event"] == "started" and since:
            again = moment(step["at"])[:16]
            same_day = again[:10] == since[:10]
            yield f"{since}, resumed {again[11:] if same_day else again} on {place}"
            since = ""
    if since:
        yield since


def amounts(job: Mapping[str, Any], simulated: bool) -> Iterator[tuple[str, str]]:
    """Energy and emissions of a job, where known, with how they were found."""
    if "baseline_ug" not in job:
        return
    used = energy(job["energy_mj"])
    if job.get("energy_uncertainty") is not None:
        used += f" ± {100 * job['energy_uncertainty']:.0f} %"
    if job.get("energy_method"):
        used += f" (method: {job['energy_method']})"
    yield "energy", used
    label = ", SIMULATED grid" if simulated else ""
    emitted, baseline, avoided = job["emissions_ug"], job["baseline_ug"], job["avoided_ug"]
    yield "emitted", f"{mass(emitted)} CO2e{label}"
    yield "baseline", f"{mass(baseline)} CO2e, had it run at once on FAST"
    share = percent(avoided, baseline)
    yield "avoided", f"{mass(avoided)} CO2e" + (f" ({share})" if share else "")
    if job.get("unpriced_mj"):
        yield "unpriced", f"{energy(job['unpriced_mj'])} used while no intensity was known"
    if job.get("embodied_ug"):
        yield "embodied", f"{mass(job['embodied_ug'])} CO2e, its share of making the machine"
        yield "SCI", f"{mass(job['sci_ug'])} CO2e (ISO/IEC 21031:2024; emitted and embodied)"


def _deadline(job: Mapping[str, Any], now: str) -> str:
    deadline = job.get("deadline")
    if deadline is None:
        return "none"
    text = f"{moment(deadline)} UTC"
    if job["state"] not in TERMINAL:
        return f"{text} ({until(deadline, now)})"
    if job["state"] != "completed" or not job["runs"]:
        return text
    spare = parse_time(deadline) - parse_time(job["runs"][-1]["at"])
    if spare < 0:
        return f"{text}, MISSED by {duration(-spare)}"
    return f"{text}, met with {duration(spare)} to spare"


TIMELINE_COLUMNS = (
    Column("time (UTC)"),
    Column("step", styles=STATES),
    Column("try", right=True),
    Column("what and why", flexible="wraps"),
)


def timeline_rows(job: Mapping[str, Any]) -> Iterator[list[str]]:
    """Rows of TIMELINE_COLUMNS."""
    for step in job["timeline"]:
        yield [moment(step["at"]), step["event"], str(step.get("attempt", "")), step_text(step)]


def step_text(step: Mapping[str, Any]) -> str:
    """What a step of the timeline says beyond its name."""
    parts = [why(step.get("reason"))]
    if step["event"] == "dispatched":
        parts.insert(0, f"on {pool_name(step['pool'], step.get('zone'))}")
    elif step["event"] == "started":
        parts.insert(0, f"by {step['worker']}")
    elif step.get("planned_start") and "planned for" not in parts[0]:
        parts.append(f"planned for {moment(step['planned_start'])[:16]} UTC")
    return "; ".join(part for part in parts if part)


def step_key(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a step worth telling again: a new plan counts only with another start."""
    return step["event"], step.get("attempt"), step.get("planned_start")


RUN_COLUMNS = (
    Column("try", right=True),
    Column("outcome", styles=STATES),
    Column("exit", right=True),
    Column("ran", right=True),
    Column("energy", right=True),
    Column("emitted", right=True),
    Column("baseline", right=True),
    Column("remarks", flexible="wraps"),
)


def run_rows(job: Mapping[str, Any]) -> Iterator[list[str]]:
    """Rows of RUN_COLUMNS, one for each ended attempt."""
    for run in job["runs"]:
        remarks = [run.get("error") or "", *run.get("limitations", ())]
        if (run.get("exit_code") is not None) and remarks[0] == f"exit code {run['exit_code']}":
            remarks.pop(0)
        yield [
            str(run["attempt"]),
            run["outcome"],
            str(run.get("exit_code", "")),
            duration(run["run_ms"]),
            energy(run.get("energy_mj", 0)),
            mass(run.get("emissions_ug", 0)),
            mass(run.get("baseline_ug", 0)),
            "; ".join(each for each in remarks if each),
        ]
