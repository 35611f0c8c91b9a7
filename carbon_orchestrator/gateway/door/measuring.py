"""What is counted of every request, and when its connection is waiting for whom."""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.gateway.deployment.metrics import Metrics
from carbon_orchestrator.gateway.door.connections import Connection

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Measuring:
    """Around all that answers requests."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @web.middleware
    async def measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The same for what the application answers."""
        began = time.perf_counter()
        self.begin(request)
        try:
            response = await handler(request)
        finally:
            self.end(request)
        resource = request.match_info.route.resource
        # The route, never the path: labels must not grow with what clients ask for.
        route = resource.canonical if resource is not None else "none"
        method = request.method if request.method in _METHODS else "other"
        self.answered(method, route, response.status, began)
        return response

    def begin(self, request: web.BaseRequest) -> None:
        """The headers are there."""
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.begin(request.content)

    def end(self, request: web.BaseRequest) -> None:
        """The answer is known."""
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.end()

    def answered(self, method: str, route: str, status: int, began: float) -> None:
        """Count it. `began`: by time.perf_counter."""
        self._metrics.answered(method, route, status, time.perf_counter() - began)
