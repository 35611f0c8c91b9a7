"""What is counted of every request, and when its connection is waiting for whom."""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.gateway.deployment.requests import Requests
from carbon_orchestrator.gateway.door.connections import Connection

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Measuring:
    """Around all that answers requests."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    @web.middleware
    async def measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count it, and how long it took."""
        began, connection = time.perf_counter(), request.protocol
        assert isinstance(connection, Connection)
        connection.begin(request.content)
        try:
            response = await handler(request)
        finally:
            connection.end()
        resource = request.match_info.route.resource
        # The route, never the path: labels must not grow with what clients ask for.
        route = resource.canonical if resource is not None else "none"
        method = request.method if request.method in _METHODS else "other"
        self._requests.answered(method, route, response.status, time.perf_counter() - began)
        return response
