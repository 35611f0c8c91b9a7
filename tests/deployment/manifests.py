"""The overlays of k8s/ as kubectl builds them, and words for what is in them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE = "base"
#: With the components that no overlay has, as somebody's own overlay may name them.
EVERYTHING = "overlays/production + keda + kubernetes-jobs"
OVERLAYS = [
    BASE,
    *sorted(f"overlays/{each.name}" for each in (ROOT / "k8s/overlays").iterdir()),
    EVERYTHING,
]

Object = Mapping[str, Any]


@cache
def built(overlay: str) -> tuple[Object, ...]:
    """All objects of an overlay. Skips where there is no kubectl."""
    overlay, *components = overlay.split(" + ")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "k8s", Path(folder, "k8s"))
        whole = {
            "resources": [f"k8s/{overlay}"],
            "components": [f"k8s/components/{each}" for each in components],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.dump(whole))
        return kustomized(Path(folder))


def kustomized(folder: Path) -> tuple[Object, ...]:
    """What kubectl builds of a folder. Skips where there is none."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not on PATH: no overlay can be built")
    made = subprocess.run(
        [program, "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    assert not made.stderr, made.stderr
    return tuple(yaml.load_all(made.stdout, yaml.CSafeLoader))


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [each for each in built(overlay) if each["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Object:
    (found,) = (each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name)
    return found


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def workloads(overlay: str) -> dict[str, Object]:
    """What runs pods, by name."""
    return {name_of(each): each for each in of_kind(overlay, "Deployment", "StatefulSet")}


def roles(overlay: str) -> dict[str, Object]:
    """Those that run our program."""
    return {name_of(each): each for each in of_kind(overlay, "Deployment")}


def pod(workload: Object) -> Any:
    """The pod's spec."""
    return workload["spec"]["template"]["spec"]


def labels(workload: Object) -> dict[str, str]:
    """Those of the pods."""
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def container(workload: Object) -> Any:
    (only,) = pod(workload)["containers"]
    return only


def environment(workload: Object) -> dict[str, Any]:
    """What each variable is: a text, or where it comes from."""
    return {
        each["name"]: each.get("value", each.get("valueFrom"))
        for each in container(workload).get("env", [])
    }


def matches(selector: Object, found: Mapping[str, str]) -> bool:
    """Whether a label selector, as Kubernetes defines it, selects these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if found.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        value, values = found.get(each["key"]), each.get("values", [])
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[each["operator"]]:
            return False
    return True


def configuration(overlay: str) -> str:
    """The text of carbon.toml."""
    (found,) = (each for each in of_kind(overlay, "ConfigMap") if "carbon.toml" in each["data"])
    text: str = found["data"]["carbon.toml"]
    return text


def every_mapping(thing: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings within, itself among them."""
    if isinstance(thing, Mapping):
        yield thing
    parts = thing.values() if isinstance(thing, Mapping) else thing
    if isinstance(thing, Mapping | list):
        for each in parts:
            yield from every_mapping(each)
