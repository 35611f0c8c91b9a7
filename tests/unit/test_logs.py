"""A log that cannot be written ends nothing."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource, sys
from carbon_orchestrator import logs
import structlog
logs.configure("info", json=True)
log = structlog.get_logger()
log.info("before")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
for _ in range(1000):
    log.info("while the disk is full")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.info("after")
"""


def test_a_full_disk_under_the_log_ends_nothing(tmp_path: object) -> None:
    path = f"{tmp_path}/log"
    with open(path, "ab") as log:
        done = subprocess.run([sys.executable, "-c", SCRIPT], stderr=log, timeout=20)
    assert done.returncode == 0
    with open(path) as written:
        text = written.read()
    assert '"before"' in text
    assert '"after"' in text
    assert "while" not in text
