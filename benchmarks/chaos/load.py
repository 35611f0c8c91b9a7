"""What comes in during a run: jobs of random urgency and fate, over HTTP and straight to the
streams; and the grid that they run by."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from benchmarks.chaos.plan import Plan
from carbon_orchestrator.events import JobSubmitted, Urgency
from carbon_orchestrator.submission import derived_job_id, home_of, new_job_id
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.errors import CommitUnknown

_PATIENCE_SECONDS = 180.0  # of a client that sends again until it is answered
_CLIENTS = 16


def trace(path: Path, days: int) -> None:
    """An hourly trace that passes through all bands twice a day, 40 to 260 gCO2e/kWh."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    lines = ["time,carbon intensity"]
    for hour in range(days * 24):
        value = 150 + 110 * math.sin(hour / 12 * math.tau)
        lines.append(f"{(start + timedelta(hours=hour)).isoformat()},{value:.1f}")
    path.write_text("\n".join(lines) + "\n")


def job(chance: random.Random) -> JobSubmitted:
    """A job of random urgency and fate."""
    urgency: Urgency = chance.choices(("urgent", "normal", "flexible"), (2, 5, 3))[0]
    kind = chance.choices(("noop", "nap", "flaky", "true", "doze"), (60, 20, 15, 4, 1))[0]
    payload: dict[str, Any] = {}
    if kind == "nap":
        payload["seconds"] = round(chance.uniform(0.01, 0.4), 3)
    elif kind == "flaky":
        payload["failures"] = chance.choices((1, 2, 3), (6, 3, 1))[0]
    return JobSubmitted(
        type=kind, urgency=urgency, payload=msgspec.Raw(msgspec.json.encode(payload))
    )


class Publishers:
    """Half of the jobs go over HTTP, half straight to the streams; `accepted` is what was
    answered for."""

    def __init__(self, plan: Plan, url: str, port: int) -> None:
        self.plan = plan
        self.accepted: set[str] = set()
        self.published = 0
        self._chance = random.Random(f"{plan.seed} load")
        self._url = f"http://127.0.0.1:{port}/jobs"
        replicas = 1 if plan.durability == "replica" else 0
        self._topologies = plan.topologies
        self._committers = [
            Committer(
                connect(url, partition=each.partition.number), each.partition, replicas=replicas
            )
            for each in self._topologies
        ]
        self._ends = 0.0
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Publish until the run's time is over."""
        self._ends = time.monotonic() + self.plan.seconds
        timeout = aiohttp.ClientTimeout(total=10)
        session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with session, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stream())
                for number in range(_CLIENTS):
                    tasks.create_task(self._http(session, number / _CLIENTS))
        finally:
            for each in self._committers:
                await each.aclose()

    async def _stream(self) -> None:
        began = time.monotonic()
        sent = 0
        while time.monotonic() < self._ends:
            count = self._chance.randint(1, 60)
            sent += count
            ids, transactions = [], []
            number = self._chance.randrange(self.plan.partitions)
            for _ in range(count):
                event = msgspec.structs.replace(job(self._chance), job_id=new_job_id(number))
                lane = self._topologies[number].jobs_lane(event.urgency)
                transactions.append(Transaction().emit(lane, envelope(event, "chaos")))
                ids.append(event.job_id)
            try:
                taken = await self._committers[number].commit(transactions)
            except CommitUnknown:
                taken = []  # no answer: these may be there or not
            self.accepted |= {str(each) for each, held in zip(ids, taken, strict=False) if held}
            self.published += count
            await _until(began + sent / (self.plan.rate / 2))

    async def _http(self, session: aiohttp.ClientSession, offset: float) -> None:
        pause = _CLIENTS / (self.plan.rate / 2)
        following = time.monotonic() + offset * pause
        while following < self._ends:
            await _until(following)
            following = max(following + pause, time.monotonic())
            key = f"chaos-{self.plan.seed}-{next(self._numbers)}"
            body = msgspec.json.encode(job(self._chance))
            posts = [self._post(session, key, body)]
            if self._chance.random() < 0.05:  # an impatient client
                posts.append(self._post(session, key, body))
            for job_id in await asyncio.gather(*posts):
                number = home_of(self.plan.partitions, "key", key)
                if job_id != derived_job_id(number, "key", key):
                    raise AssertionError(f"key {key} was answered with job {job_id}")
                self.accepted.add(job_id)
            self.published += 1
            if self._chance.random() < 0.02:
                await self._cancel(session, job_id)

    async def _post(self, session: aiohttp.ClientSession, key: str, body: bytes) -> str:
        """Post until it is answered for: what every client with a key may do."""
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        answer = "none"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                async with session.post(self._url, data=body, headers=headers) as response:
                    if response.status in (200, 202):
                        return str((await response.json())["id"])
                    answer = f"{response.status}: {await response.text()}"
                    if response.status < 500:
                        break
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                answer = repr(error)
            await asyncio.sleep(0.1)
        raise AssertionError(f"key {key} was not accepted; the last answer was {answer}")

    async def _cancel(self, session: aiohttp.ClientSession, job_id: str) -> None:
        """Once: whether it comes through, and in time, is as it happens."""
        try:
            async with session.delete(f"{self._url}/{job_id}"):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
