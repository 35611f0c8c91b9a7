"""Fixtures for tests of programs that submit jobs: `orchestrator` is a running deployment.

    def test_reports_are_made(orchestrator):
        job = orchestrator.client.submit("report", payload={"month": 3})
        assert orchestrator.client.wait(job, timeout=10).succeeded

    @pytest.fixture
    def orchestrator_types():  # in a test file or conftest.py: what can be submitted
        return {"report": my_package.make_report, "convert": ["python3", "convert.py"]}

Loaded by every pytest run where the package is installed, so it imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from carbon_orchestrator.testing import Handler, House, Orchestrator


@pytest.fixture(scope="session")
def orchestrator_house() -> Iterator[House]:
    """The bundled server that all tests' orchestrators stand on."""
    from carbon_orchestrator.testing import House

    with House() as house:
        yield house


@pytest.fixture
def orchestrator_types() -> Mapping[str, Handler]:
    """Job types by name: a function of (payload, context), async or plain, "module:function", or
    an argv. To be overridden."""
    return {}


@pytest.fixture
def orchestrator_config() -> Mapping[str, Any]:
    """Further fields of carbon_orchestrator.config.Config. To be overridden."""
    return {}


@pytest.fixture
def orchestrator(
    orchestrator_house: House,
    orchestrator_types: Mapping[str, Handler],
    orchestrator_config: Mapping[str, Any],
    tmp_path: Path,
) -> Iterator[Orchestrator]:
    """A running orchestrator with all its roles, of this test alone: `client`, `url`,
    `set_intensity(...)`, `publisher()`."""
    with orchestrator_house.orchestrator(
        orchestrator_types, orchestrator_config, tmp_path / "carbon-orchestrator"
    ) as running:
        yield running
