"""Requests made from a gateway's own OpenAPI document (schemathesis, extra fuzz): whatever is
sent, nothing is a 5xx, every answer is one that the document promises, and without a key there
is none.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from carbon_orchestrator.accounting.component import Accounting
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Config, Limits, complete
from carbon_orchestrator.contract import openapi
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.routes import ROUTES
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.runtime import Runtime
from streams.testing import running_server

#: Of schemathesis' checks, two: that whatever a schema allows is taken, as a schema cannot say what
#: a deadline may be; and that what was deleted is gone, as DELETE cancels a job, which stays.
_LEFT_OUT = "positive_data_acceptance,use_after_free"


def available() -> bool:
    """Whether schemathesis is installed."""
    return find_spec("schemathesis") is not None


def document(types: Sequence[str]) -> dict[str, Any]:
    """The document, of a gateway that asks everybody for a key and serves these types of jobs: so
    more submissions come through. Without bodies of lines, which schemathesis cannot make."""
    made = openapi.document()
    made["components"]["schemas"]["NewJob"]["properties"]["type"]["enum"] = list(types)
    for path in made["paths"].values():
        for operation in path.values():
            operation["security"] = [way for way in operation["security"] if way]
            operation.get("requestBody", {}).get("content", {}).pop("application/x-ndjson", None)
    return made


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A gateway that asks for keys, on a server of its own, with a router: its URL, and a key."""
    config = complete(Config(limits=Limits(rate=1e6, burst=1_000_000)))
    with running_server() as server:
        runtime = Runtime(server.url, config)
        topology = runtime.topology
        key = ApiKey(name="fuzz", scopes=("admin",), sha256="", created=wall_ms())
        text = await create_key(runtime.committer(), topology, "fuzz", key)
        gateway = Gateway(runtime, port=0, require_keys=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(runtime.follow_clock())
            for part in (gateway, Router(runtime), Accounting(runtime, folder / "archive")):
                tasks.create_task(part.run())
            await gateway.started.wait()
            try:
                yield f"http://127.0.0.1:{gateway.port}", text
            finally:
                runtime.stop.set()
        await runtime.aclose()


async def run(seed: int, *, examples: int, seconds: float | None = None) -> tuple[int, str]:
    """Schemathesis' exit status, 0 where nothing was found, and what it says. `examples`: of each
    operation, one request each; `seconds`: so long, and then every value at its limits and requests
    that follow from one another, too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        described = folder / "openapi.json"
        described.write_text(json.dumps(document(sorted(complete(Config()).types))))
        phases = "examples,fuzzing" + (",coverage,stateful" if seconds is not None else "")
        endless = [each.operation for each in ROUTES if each.long]
        limits = [] if seconds is None else ["--max-time", str(max(1, round(seconds)))]
        async with house(folder) as (url, key):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from schemathesis.cli import schemathesis as s; s()"),
                *("run", str(described), "--url", url, "--header", f"Authorization: Bearer {key}"),
                *("--seed", str(seed), "--max-examples", str(examples)),
                *("--phases", phases, *limits),
                *(f"--exclude-operation-id={each}" for each in endless),
                *("--exclude-checks", _LEFT_OUT, "--generation-database", "none"),
                *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
                cwd=folder,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout((seconds or 0) * 2 + 60):
                    said, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode("utf-8", "replace")


def main(seconds: float, seed: int) -> int:
    """Run for so long at most, and print what was found."""
    if not available():
        print("api: schemathesis is not installed: pip install 'carbon-orchestrator[fuzz]'")
        return 1
    status, said = asyncio.run(run(seed, examples=10_000, seconds=seconds))
    print(said)
    return status
