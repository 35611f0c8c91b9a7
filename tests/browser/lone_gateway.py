"""A gateway with no other role beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Config, complete
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey, Scope
from carbon_orchestrator.runtime import Runtime
from streams.testing import until


@dataclass
class LoneGateway:
    runtime: Runtime
    gateway: Gateway

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    async def new_key(self, *scopes: Scope) -> str:
        """An API key that the gateway knows: it looks for new ones every second."""
        key = ApiKey(name="browser", scopes=scopes, sha256="", created=wall_ms())
        made = await create_key(self.runtime.committer(5), self.runtime.topology, "a test", key)
        await until(lambda: self.gateway._keyring.identify(made) is not None)
        return made


@asynccontextmanager
async def lone_gateway(
    redis_url: str, namespace: str, *, require_keys: bool = False
) -> AsyncIterator[LoneGateway]:
    """In the loop that asks for it."""
    runtime = Runtime(redis_url, complete(Config(namespace=namespace), "gateway for tests"))
    gateway = Gateway(runtime, port=0, require_keys=require_keys)
    assert await runtime.ready()
    running = asyncio.create_task(gateway.run())
    try:
        await asyncio.wait_for(gateway.started.wait(), 10)
        yield LoneGateway(runtime, gateway)
    finally:
        runtime.stop.set()
        await asyncio.wait_for(running, 15)
        await runtime.aclose()
