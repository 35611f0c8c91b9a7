"""The least that a FastAPI service does with a job: validate it, and one XADD."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis

redis = Redis.from_url(os.environ["BENCH_REDIS"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


class Job(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: str
    urgency: Literal["urgent", "normal", "flexible"] = "normal"
    payload: dict[str, Any] = Field(default_factory=dict)
    deadline: str | float | None = None
    project: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)


@app.post("/jobs", status_code=202)
async def submit(job: Job) -> dict[str, str]:
    entry_id = await redis.xadd("jobs", {"type": "job.submitted", "data": job.model_dump_json()})
    return {"id": entry_id.decode()}
