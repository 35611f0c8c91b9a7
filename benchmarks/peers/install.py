"""Make one virtual environment a peer, with pinned versions, under .bench/ of the repository.

    python -m benchmarks.peers.install [PEER ...]

What is already installed at these versions is skipped; a peer that cannot be installed is
reported and left out. Exit status 1 if none of those asked for is usable.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv

from benchmarks.peers import FASTAPI, PEERS, Peer

TIMEOUT = 600.0
_ALL = {**PEERS, FASTAPI.name: FASTAPI}


def installed(peer: Peer) -> bool:
    """Whether the environment is complete at the versions that are pinned now."""
    mark = peer.environment / "requirements.txt"
    return mark.is_file() and mark.read_text().split() == list(peer.requirements)


def install(peer: Peer) -> str | None:
    """Install the peer unless it is there; returns None, or why it could not be done."""
    if installed(peer):
        return None
    shutil.rmtree(peer.environment, ignore_errors=True)
    try:
        venv.create(peer.environment, with_pip=True)
        command = [peer.binary("python"), "-m", "pip", "install", "--quiet"]
        command += ["--disable-pip-version-check", *peer.requirements]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode:
        return done.stderr.strip()[-500:] or f"pip ended with {done.returncode}"
    # Written last: an environment without it is unfinished and made anew.
    (peer.environment / "requirements.txt").write_text("\n".join(peer.requirements) + "\n")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(_ALL)}")
    names: list[str] = parser.parse_args().peers or list(_ALL)
    if unknown := [name for name in names if name not in _ALL]:
        parser.error(f"no such peer: {', '.join(unknown)}")
    failures = 0
    for name in names:
        why = install(_ALL[name])
        failures += why is not None
        print(f"{name}: {'ready' if why is None else f'not installed: {why}'}", flush=True)
    sys.exit(failures == len(names))


if __name__ == "__main__":
    main()
