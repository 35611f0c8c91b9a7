"""The Dockerfile and the compose file, read as Docker reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]

#: A directive, its name and what follows it.
Directive = tuple[str, str]


def stages() -> list[list[Directive]]:
    """The directives of the Dockerfile, by stage, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = text.replace("\\\n", " ")
    found: list[list[Directive]] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest.strip()))
    return found


def last(name: str) -> str:
    """What the image's stage says last by this directive."""
    return [rest for each, rest in stages()[-1] if each == name][-1]


def entrypoint() -> list[str]:
    """argv, to which a service's command is added."""
    return list(json.loads(last("ENTRYPOINT")))


def health_check() -> list[str]:
    """argv."""
    _, _, command = last("HEALTHCHECK").partition("CMD ")
    return list(json.loads(command))


def environment() -> dict[str, str]:
    """What the image sets, but for PATH."""
    pairs = [rest for name, rest in stages()[-1] if name == "ENV"]
    found = dict(pair.split("=", 1) for pair in " ".join(pairs).split())
    del found["PATH"]
    return found


def compose() -> dict[str, Any]:
    """The compose file. Merge keys are carried out; variables stand as they are."""
    return dict(msgspec.yaml.decode((ROOT / "docker-compose.yml").read_bytes()))
