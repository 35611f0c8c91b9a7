"""What an operator may write, and what is said of what he may not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from carbon_orchestrator.config import ConfigError, command_line, load

COMMAND = '[types.x]\ncommand = ["true"]\n'


def test_every_value_has_a_default() -> None:
    config = load()
    assert set(config.types) == {"analytics", "training", "inference"}
    assert set(config.pools) == {"fast", "eco"}
    assert config.pools["eco"].slots <= config.pools["fast"].slots
    assert config.urgency["normal"].deadline == "90m"
    assert command_line(config.types["analytics"])[0] == sys.executable


def test_what_is_given_stands_beside_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        'lease = "3s"\n'
        + COMMAND
        + '[urgency.normal]\ndeadline = "none"\n[pools.fast]\nslots = 7\n'
    )
    config = load(path)
    assert {"x", "analytics"} <= set(config.types)
    assert (config.pools["fast"].slots, config.lease_s) == (7, 3)
    assert config.urgency["normal"].deadline == "none"
    assert config.urgency["flexible"].deadline == "24h"
    assert "eco" in config.pools


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lease = ", "c.toml"),
        ("leese = 3", "leese"),
        ("lease = 0.5", "lease must be at least 1 second"),
        ('drain = "soon"', "drain"),
        ("default_types = false", "no job types"),
        ('[types."X Y"]\ncommand = ["true"]', "a type's name"),
        ("[types.x]", "exactly one of command, python and kubernetes"),
        ('[types.x]\ncommand = ["true"]\npython = "a:b"', "exactly one of command, python"),
        ('[types.x]\ncommand = ["true"]\nkubernetes = "j.yaml"', "exactly one of command, python"),
        ('[types.x]\nkubernetes = "j.yaml"\ngpus = [0]', "ask for a pod's in its template"),
        ('[types.x]\nkubernetes = "j.yaml"\nuser = "me"', "pod's securityContext and resources"),
        ("[types.x]\ncommand = []", "needs at least the program"),
        ('[types.x]\npython = "module"', "module:function"),
        (COMMAND + "max_attempts = 0", "types.x.max_attempts must be 1 to 100"),
        (COMMAND + 'timeout = "1 hour"', "types.x.timeout"),
        (COMMAND + 'shell = "rm"', "shell"),
        ("[pools.fast]\nslots = 0", "pools.fast.slots must be 1 to 10000"),
        ("[pools.slow]\nslots = 1", "slow"),
        ("[pools.fast]\nslots = 1\nnice = 20", "nice"),
        ("[pools.fast]\nslots = 1\nslowdown = 0", "slowdown"),
        ('[urgency.normal]\ndeadline = "never"', "urgency.normal.deadline"),
        ("[threshold]\nlow = 0.7\nhigh = 0.6", "threshold needs"),
        ("[threshold]\nhigh = 1.5", "threshold needs"),
        ('[threshold]\nmode = "absolute"\nlow = -1', "threshold needs"),
        ('namespace = "a{b}"', "namespace"),
        ('policy = "magic"', "policy"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.toml") as caught:
        load(path)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")
