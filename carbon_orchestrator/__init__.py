"""Carbon-aware orchestration of AI and batch jobs over Redis Streams."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carbon_orchestrator.client.blocking import SyncClient
    from carbon_orchestrator.client.errors import (
        Conflict,
        Forbidden,
        Incomplete,
        InvalidJob,
        InvalidRequest,
        NotEnded,
        NotFound,
        OrchestratorError,
        TooManyRequests,
        Unauthorized,
        Unavailable,
    )
    from carbon_orchestrator.client.gateway import Client
    from carbon_orchestrator.client.grid import BestWindow, Carbon, Emissions, Health, Pool
    from carbon_orchestrator.client.jobs import Job, JobList, Plan
    from carbon_orchestrator.client.live import Event, LogPiece
    from carbon_orchestrator.publisher import Publisher

__version__ = "0.1.0"

__all__ = [
    "BestWindow",
    "Carbon",
    "Client",
    "Conflict",
    "Emissions",
    "Event",
    "Forbidden",
    "Health",
    "Incomplete",
    "InvalidJob",
    "InvalidRequest",
    "Job",
    "JobList",
    "LogPiece",
    "NotEnded",
    "NotFound",
    "OrchestratorError",
    "Plan",
    "Pool",
    "Publisher",
    "SyncClient",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "__version__",
]

_ELSEWHERE = {
    "Client": "client.gateway",
    "SyncClient": "client.blocking",
    "Publisher": "publisher",
    "Job": "client.jobs",
    "JobList": "client.jobs",
    "Plan": "client.jobs",
    "Event": "client.live",
    "LogPiece": "client.live",
    "BestWindow": "client.grid",
    "Pool": "client.grid",
    "Carbon": "client.grid",
    "Emissions": "client.grid",
    "Health": "client.grid",
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for: every role imports this package, few need a client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_ELSEWHERE.get(name, 'client.errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
