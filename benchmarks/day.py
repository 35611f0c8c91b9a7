"""Sixty real jobs through a day of a recorded grid, against a running deployment.

    ./scripts/up.sh --signal csv:TRACE.csv --speed 3600 &
    python -m benchmarks.day [--url http://127.0.0.1:8000] [--jobs 60]

At speed 3600 a day takes 24 seconds. Jobs of all types and urgencies come in over the day;
the table shows what was decided about each, when, at what intensity, and why.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

PAYLOADS: dict[str, dict[str, Any]] = {
    "analytics": {"rows": 20_000},
    "training": {"epochs": 8, "samples": 300},
    "inference": {"count": 3000},
}
DEADLINES = {"urgent": "6h", "normal": "14h", "flexible": "30h"}
ENDED = {"completed", "failed", "cancelled", "rejected"}


async def run(url: str, count: int, seed: int) -> int:
    chance = random.Random(seed)
    async with aiohttp.ClientSession(url) as session:

        async def get(path: str) -> Any:
            async with session.get(path) as response:
                return await response.json()

        speed = (await get("/carbon"))["clock"]["speed"]
        pause = 86_400 / speed / count
        ids = []
        for number in range(count):
            job = {
                "type": chance.choice(list(PAYLOADS)),
                "urgency": ("urgent", "normal", "flexible")[number % 3],
            }
            job["deadline"] = DEADLINES[job["urgency"]]
            job["payload"] = PAYLOADS[job["type"]]  # type: ignore[assignment]
            async with session.post("/jobs", json=job) as response:
                answer = await response.json()
                if response.status != 202:
                    raise SystemExit(f"not accepted: {answer}")
                ids.append(answer["id"])
            await asyncio.sleep(pause)
        jobs: list[dict[str, Any]] = []
        for _ in range(1200):
            jobs = [await get(f"/jobs/{each}") for each in ids]
            if all(job["state"] in ENDED for job in jobs):
                break
            await asyncio.sleep(0.5)
    return show(jobs)


def show(jobs: list[dict[str, Any]]) -> int:
    """Print the table; the number of jobs that did not complete by their deadline."""
    table = Table("submitted", "job", "waited", "pool", "g/kWh", "band", "in time", "why", box=None)
    late = 0
    patterns: Counter[str] = Counter()
    for job in jobs:
        dispatched = [step for step in job["timeline"] if step["event"] == "dispatched"]
        last = dispatched[-1] if dispatched else {}
        deferred = any(step["event"] == "deferred" for step in job["timeline"])
        in_time = job["state"] == "completed" and job["timeline"][-1]["at"] <= job["deadline"]
        late += not in_time
        waited = hours(job["submitted_at"], last["at"]) if last else 0.0
        how = f"{'deferred, then ' if deferred else ''}{str(last.get('pool')).upper()}"
        patterns[f"{job['urgency']:8} {last.get('band')!s:6} {how}"] += 1
        table.add_row(
            job["submitted_at"][5:16].replace("T", " "),
            f"{job['urgency']} {job['type']}",
            f"{waited:.1f} h",
            str(last.get("pool")).upper(),
            f"{last.get('intensity') or 0:.0f}",
            str(last.get("band")),
            "yes" if in_time else f"NO ({job['state']})",
            str(last.get("reason", job.get("reason"))).partition(": ")[2],
        )
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(table)
    console.print("\nurgency, band at dispatch, what was done: how many")
    for pattern, number in sorted(patterns.items()):
        console.print(f"  {pattern:42} {number}")
    emitted = sum(job.get("emissions_ug", 0) for job in jobs)
    baseline = sum(job.get("baseline_ug", 0) for job in jobs)
    console.print(
        f"\n{len(jobs) - late} of {len(jobs)} completed by their deadline;"
        f" {emitted / 1e6:.4f} g emitted, {baseline / 1e6:.4f} g had each run at once"
        f" ({(1 - emitted / baseline) * 100 if baseline else 0:.1f} % avoided)"
    )
    return late


def hours(start: str, end: str) -> float:
    from carbon_orchestrator.clock import parse_time

    return (parse_time(end) - parse_time(start)) / 3_600_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(1 if asyncio.run(run(arguments.url, arguments.jobs, arguments.seed)) else 0)


if __name__ == "__main__":
    main()
