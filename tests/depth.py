"""How deep the tests go: by default as far as a few minutes allow, with CARBON_TEST_THOROUGH=1 all
the way."""

from __future__ import annotations

import os

import pytest

THOROUGH = os.environ.get("CARBON_TEST_THOROUGH") == "1"

in_depth = pytest.mark.skipif(not THOROUGH, reason="only with CARBON_TEST_THOROUGH=1")


def depth(quick: int, thorough: int) -> int:
    """How many: by default, or when thorough."""
    return thorough if THOROUGH else quick
