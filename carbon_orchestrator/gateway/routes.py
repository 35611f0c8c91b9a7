"""Every route, and what it asks of a caller. The OpenAPI document is made from the same table."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from carbon_orchestrator.gateway.door.keys import Scope


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`scopes`: any of them will do, none are needed where it is empty. `bound`: whether a key
    that is bound to a project may use it. `always`: answered however busy the gateway is. `long`:
    its answer may go on for hours, so it takes one of the places for such (limits.live). `where`:
    the pattern of what is named in the path, where not anything is. `polled`: asked for again and
    again, so the answer has an ETag, and is not sent to who has it."""

    method: str
    path: str
    operation: str
    scopes: tuple[Scope, ...] = ()
    bound: bool = True
    always: bool = False
    long: bool = False
    where: str = ""
    polled: bool = False

    @property
    def template(self) -> str:
        """The path as the router takes it."""
        return self.path.replace("}", f":{self.where}}}") if self.where else self.path


ROUTES = (
    Route(method="GET", path="/", operation="index"),
    Route(method="GET", path="/assets/{folder}/{name}", operation="asset"),
    Route(method="GET", path="/docs", operation="docs"),
    Route(method="GET", path="/openapi.json", operation="openapi", polled=True),
    Route(method="GET", path="/asyncapi.json", operation="asyncapi", polled=True),
    Route(method="GET", path="/schemas.json", operation="schemas", polled=True),
    Route(method="GET", path="/livez", operation="livez", always=True),
    Route(method="GET", path="/readyz", operation="readyz", always=True),
    Route(method="GET", path="/health", operation="health"),
    Route(method="GET", path="/metrics", operation="metrics", scopes=("read",), bound=False),
    Route(method="POST", path="/jobs", operation="submit_job", scopes=("submit",)),
    Route(method="GET", path="/jobs", operation="list_jobs", polled=True, scopes=("read",)),
    Route(method="GET", path="/jobs/{id}", operation="show_job", polled=True, scopes=("read",)),
    Route(
        method="GET",
        path="/jobs/{id}/events",
        operation="job_events",
        polled=True,
        scopes=("read",),
    ),
    Route(method="GET", path="/jobs/{id}/logs", operation="job_logs", scopes=("read",), long=True),
    Route(method="DELETE", path="/jobs/{id}", operation="cancel_job", scopes=("submit", "operate")),
    Route(method="GET", path="/carbon", operation="carbon", scopes=("read",)),
    Route(method="GET", path="/carbon/best-window", operation="best_window", scopes=("read",)),
    Route(
        method="GET",
        path="/carbon/history",
        operation="carbon_history",
        polled=True,
        scopes=("read",),
    ),
    Route(
        method="GET",
        path="/dead-letters",
        operation="list_letters",
        polled=True,
        scopes=("read",),
        bound=False,
    ),
    Route(
        method="POST",
        path="/dead-letters/retry",
        operation="retry_letters",
        scopes=("operate",),
        bound=False,
    ),
    Route(
        method="POST",
        path="/dead-letters/drop",
        operation="drop_letters",
        scopes=("operate",),
        bound=False,
    ),
    Route(
        method="GET",
        path="/dead-letters/{id}",
        where="[0-9]+-[0-9]+(?:-[0-9]+)?",  # so that `retry` and `drop` are none
        operation="show_letter",
        polled=True,
        scopes=("read",),
        bound=False,
    ),
    Route(
        method="GET", path="/carbon/starts", operation="job_starts", polled=True, scopes=("read",)
    ),
    Route(method="GET", path="/emissions", operation="emissions", polled=True, scopes=("read",)),
    Route(method="POST", path="/events", operation="take_events", scopes=("submit", "operate")),
    Route(method="GET", path="/events", operation="events", scopes=("read",), long=True),
    Route(
        method="GET", path="/types", operation="list_types", polled=True, scopes=("read", "submit")
    ),
    Route(method="GET", path="/overview", operation="overview", scopes=("read",), bound=False),
    Route(
        method="GET",
        path="/pools",
        operation="list_pools",
        polled=True,
        scopes=("read",),
        bound=False,
    ),
    Route(
        method="GET",
        path="/pools/{site}/demand",
        operation="pool_demand",
        scopes=("read",),
        bound=False,
    ),
)
BY_PATH: Mapping[tuple[str, str], Route] = {(each.method, each.path): each for each in ROUTES}
