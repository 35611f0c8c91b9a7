"""Records that older versions left: this one can audit them, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from audited import divergences

from carbon_orchestrator.audit.reading import Source
from carbon_orchestrator.audit.verify import head, verify
from streams.keys import Partition

RECORDED = Path(__file__).resolve().parent.parent / "recorded"
RECORDS = sorted(
    path for version in RECORDED.iterdir() if version.is_dir() for path in version.glob("*.0")
)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.name}")
async def test_a_record_of_an_older_version_can_be_audited(path: Path) -> None:
    source = Source(Partition(path.name.removesuffix(".0")), None, path.parent)
    noted = await head(source)
    assert noted is not None
    result = await verify(source, noted[0], lambda part, count: None, apart=False)
    assert result.failed is None
    assert divergences(result.tallies) == []
    for kind in ("seals", "submissions", "decisions", "histories", "figures"):
        assert result.tallies[kind].checked, kind
    assert not result.tallies["decisions"].unchecked
    assert not result.tallies["submissions"].unchecked
    wrong = await verify(
        source, noted[0].__class__(noted[0].number, "0" * 64), lambda part, count: None, apart=False
    )
    assert wrong.tallies["seals"].diverging == 1


def test_all_policies_are_on_record() -> None:
    assert {path.name.removesuffix(".0") for path in RECORDS} >= {
        *("threshold", "run_now", "greenest_window", "greenest_slots")
    }
