"""Programs in place of kubectl, kind and docker, as scripts/deploy-*.sh find them on PATH.

Each call is recorded. The cluster is a folder: Secrets and ConfigMaps as files, all else by name.
What needs no cluster is kubectl's own work: overlays, objects from files, templates. A pod runs
the real program, and the stream server is a real one (`Cluster.server`), or there is none.

Called as NAME ARGUMENT... by the little scripts that `Cluster` makes; $CLUSTER is the folder.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NEEDED = ("basename", "cat", "cmp", "cp", "cut", "dirname", "grep", "head", "mktemp", "rm", "sed")
NEEDED += ("sh", "true", "wc")
IMAGE_ID = "0123456789abcdef"


class Cluster:
    """A machine with the programs named, and a checkout of what the scripts need."""

    def __init__(self, folder: Path, *programs: str, server: int = 0) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self.objects = folder / "objects"
        self.objects.mkdir(parents=True)
        (folder / "calls").touch()
        tools, pod = folder / "bin", folder / "pod"
        tools.mkdir()
        pod.mkdir()
        for each in NEEDED:
            found = shutil.which(each)
            assert found is not None, each
            (tools / each).symlink_to(found)
        for each in programs:
            script(tools / each, f"{sys.executable} {__file__} {each}")
        program = f"{sys.executable} -m carbon_orchestrator"
        script(pod / "carbon-orchestrator", program)
        shutil.copytree(ROOT / "k8s", self.checkout / "k8s")
        scripts, venv = self.checkout / "scripts", self.checkout / ".venv/bin"
        scripts.mkdir()
        venv.mkdir(parents=True)
        script(scripts / "setup.sh", "true")
        script(venv / "carbon-orchestrator", program)
        for each in ("deploy-k8s.sh", "deploy-kind.sh", "port-forward.sh"):
            shutil.copy(ROOT / "scripts" / each, scripts / each)
        self.environment = {
            "PATH": str(tools),
            "CLUSTER": str(folder),
            "SERVER": str(server),
            "KUBECTL": shutil.which("kubectl") or "",
            "TMPDIR": str(folder),
            "HOME": str(folder),
        }

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the scripts."""
        return subprocess.run(
            [str(self.checkout / "scripts" / name), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @property
    def calls(self) -> list[str]:
        """What was called since the last look, in order; without what stood on standard input."""
        calls = self.folder / "calls"
        found = calls.read_text().splitlines()
        calls.write_text("")
        return found

    def data(self, kind: str, name: str) -> dict[str, str] | None:
        folder = self.objects / f"{kind}.{name}"
        if not folder.is_dir():
            return None
        return {each.name: each.read_text() for each in folder.iterdir()}

    def keep(self, kind: str, name: str, data: dict[str, str]) -> None:
        """As if that had been applied."""
        folder = self.objects / f"{kind}.{name}"
        folder.mkdir()
        for key, value in data.items():
            (folder / key).write_text(value)

    def applied(self, kind: str, name: str) -> Any:
        """The object as it was applied last."""
        return json.loads((self.objects / f"{kind}.{name}.json").read_text())


def script(path: Path, command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)


class Kubectl:
    """What there is of it. `arguments`: without --context and --namespace."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.objects = folder / "objects"
        self.folder = folder
        self.arguments = arguments

    def run(self) -> int:
        match self.arguments:
            case ["kustomize", _] | ["create", "secret" | "configmap", *_]:
                return self.itself(self.arguments)
            case ["get", kind, name, "--ignore-not-found", "--output", form]:
                return self.show(kind, name, form)
            case ["get", "service/gateway", "--output", "name"]:
                return 0 if (self.objects / "Service.gateway.json").exists() else 1
            case ["apply", "--server-side", "--field-manager", _, "--filename", file]:
                return self.apply(file)
            case ["apply", "--server-side", _, _, "--filename", file, "--selector", selector]:
                return self.apply(file, selector)
            case ["rollout", "status", what, "--timeout", _]:
                return self.wait(what)
            case ["rollout", "restart", "deployment/gateway" | "statefulset/redis"]:
                return 0
            case ["exec", "--stdin", "deployment/router", "--", *command]:
                path = f"{self.folder / 'pod'}:{os.environ['PATH']}"
                url = f"redis://127.0.0.1:{os.environ['SERVER']}"
                pod = {"PATH": path, "CARBON_REDIS_URL": url, "HOME": "/"}
                return subprocess.run(command, env=pod).returncode
            case ["port-forward", "service/gateway", _]:
                return 0
        return told(f"no such call of kubectl is documented here: {self.arguments}")

    def itself(self, arguments: list[str]) -> int:
        environment = {"PATH": "", "HOME": str(self.folder), "KUBECONFIG": os.devnull}
        return subprocess.run([os.environ["KUBECTL"], *arguments], env=environment).returncode

    def show(self, kind: str, name: str, form: str) -> int:
        held = self.objects / f"{kind.capitalize().replace('map', 'Map')}.{name}"
        if not held.is_dir():
            return 0
        make = [kind, "generic", name] if kind == "secret" else [kind, name]
        files = [f"--from-file={each}" for each in held.iterdir()]
        return self.itself(["create", *make, *files, "--dry-run=client", "--output", form])

    def apply(self, file: str, selector: str = "") -> int:
        import yaml

        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        found = [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]
        if not found:
            return told("no objects passed to apply")
        for each in found:
            labels = each["metadata"].get("labels", {})
            if selector and labels.get(selector.partition("=")[0]) != selector.partition("=")[2]:
                continue
            name = f"{each['kind']}.{each['metadata']['name']}"
            home = self.objects / "Namespace.carbon-orchestrator.json"
            if each["kind"] != "Namespace" and not home.exists():
                return told(f"{name}: there is no namespace yet")
            (self.objects / f"{name}.json").write_text(json.dumps(each))
            if each["kind"] in ("Secret", "ConfigMap"):
                held = self.objects / name
                shutil.rmtree(held, ignore_errors=True)
                held.mkdir()
                plain = each["kind"] == "ConfigMap"
                for key, value in each["data"].items():
                    data = value.encode() if plain else base64.b64decode(value)
                    (held / key).write_bytes(data)
        return 0

    def wait(self, what: str) -> int:
        kind, _, name = what.partition("/")
        kinds = {"deployment": "Deployment", "statefulset": "StatefulSet"}
        if not (self.objects / f"{kinds[kind]}.{name}.json").exists():
            return told(f"{what} not found")
        if name == "redis" and os.environ["SERVER"] != "0":
            self.learn_users()
        return 0

    def learn_users(self) -> None:
        """What the server does when it starts: it reads the file that the Secret is mounted as."""
        file = self.folder / "users.acl"
        first = not file.read_text()
        file.write_bytes((self.objects / "Secret.redis-acl/users.acl").read_bytes())
        if first:
            import redis

            redis.Redis(port=int(os.environ["SERVER"])).acl_load()


def kind(folder: Path, arguments: list[str]) -> int:
    cluster = folder / "kind"
    match arguments:
        case ["get", "clusters"]:
            sys.stdout.write(cluster.read_text() if cluster.exists() else "")
        case ["create", "cluster", "--name", name, "--wait", _] if not cluster.exists():
            cluster.write_text(f"another\n{name}\n")
        case ["export", "kubeconfig", "--name", _] if cluster.exists():
            pass
        case ["load", "docker-image", image, "--name", _] if (folder / image).exists():
            pass
        case _:
            return told(f"kind: {arguments}")
    return 0


def docker(folder: Path, arguments: list[str]) -> int:
    match arguments:
        case ["info"]:
            return 1 if (folder / "no-daemon").exists() else 0
        case ["build", "--iidfile", file, "--tag", _, _]:
            Path(file).write_text(f"sha256:{IMAGE_ID}")
        case ["build", "--build-arg", _, "--build-arg", _, "--tag", _, _] | ["push", _]:
            pass
        case ["tag", _, image]:
            (folder / image).touch()
        case _:
            return told(f"docker: {arguments}")
    return 0


def told(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


def main(name: str, *arguments: str) -> int:
    folder, given = Path(os.environ["CLUSTER"]), list(arguments)
    with (folder / "calls").open("a") as calls:
        calls.write(" ".join([name, *(each.partition("\n")[0] for each in given)]) + "\n")
    if name != "kubectl":
        return {"kind": kind, "docker": docker}[name](folder, given)
    if given[:1] == ["--context"]:
        assert given[2] == "--namespace", given
        given = given[4:]
    return Kubectl(folder, given).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
