"""Where an audit lets a cancelled job be listed: by its submission or, of old, by its end."""

from __future__ import annotations

import pytest

from carbon_orchestrator.audit.comparing import _by_its_end


@pytest.mark.parametrize(
    ("state", "ended_at", "is_", "accepted"),
    [
        ("cancelled", b"9", (9.0, False, None), True),
        ("cancelled", b"9", (8.0, False, None), False),  # at neither time
        ("cancelled", b"9", (None, False, None), False),
        ("cancelled", b"9", (9.0, True, None), False),  # and still to be woken
        ("failed", b"9", (9.0, False, None), False),
        ("cancelled", None, (9.0, False, None), False),
    ],
)
def test_only_a_cancelled_job_may_be_listed_by_its_end(
    state: str, ended_at: bytes | None, is_: tuple[float | None, bool, float | None], accepted: bool
) -> None:
    found = {} if ended_at is None else {"ended_at": ended_at}
    assert _by_its_end(state, found, (5.0, False, None), is_) is accepted
