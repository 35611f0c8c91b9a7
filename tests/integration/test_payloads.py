"""What a job carries is seen by its handler and by who asks for the job, and nowhere else."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import pytest
import structlog
from deployment import TYPES, Deploy, command_type

from streams.testing import until

CANARY = "canary-2e8d"
PAYLOAD = {"$(id)": f"`id`; {CANARY}", "until": 50}


async def test_payloads_are_in_no_log_no_metric_and_no_argument(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        kinds = {**TYPES, "fails": command_type("sh", "-c", "cat > got; touch ../../up; sleep 9")}
        house = deploy(types=kinds, retry_delay=0.01)
        house.signal(speed=1)
        await house.all()
        held = await house.post("fails", urgency="urgent", payload=PAYLOAD)
        for kind in ("quick", "broken"):
            await house.post(kind, urgency="urgent", payload=PAYLOAD)
        refused = await house.http("POST", "/jobs", json={"type": "nothing", "payload": PAYLOAD})
        assert refused.status == 422
        await house.publish({"type": "quick", "payload": CANARY, "deadline": CANARY})
        await house.publish(f'{{"type": "quick", "payload": {CANARY}'.encode())
        await until(house.dead_letters)
        await until((house.data / "up").exists)
        arguments = [str(each.info["cmdline"]) for each in psutil.process_iter(["cmdline"])]
        metrics = await house.http("GET", "/metrics")
        assert await house.http("DELETE", f"/jobs/{held}")
        await house.reach(held, "cancelled")
        await house.counted("failed", 1)
        await house.counted("completed", 1)
        got = Path(house.data, "checkpoints", held, "got")
        assert not got.exists(), "gone with the job"
        await house.stop()
    finally:
        structlog.reset_defaults()
    streams = capsys.readouterr()
    assert "executor.ready" in streams.out
    assert CANARY not in streams.out + streams.err
    assert CANARY not in metrics.body.decode()
    assert not [each for each in arguments if CANARY in each]
