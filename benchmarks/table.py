"""The README's table: our pipeline and its peers, on one machine, in one run.

    python -m benchmarks.peers.install
    python -m benchmarks.table [--jobs 60000] [--peer-jobs 20000] [--peers dramatiq,...]

Ours goes first, between and last (three runs); the ratio is of our median to each peer. Each
measurement has a bundled server of its own, with its append-only file on (everysec).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import uvloop

from benchmarks.peers import PEERS
from benchmarks.peers.install import installed
from benchmarks.peers.measure import drain, latency
from benchmarks.pipeline import latency as our_latency
from benchmarks.pipeline import throughput
from streams.testing import running_server


def _peer(name: str, jobs: int) -> dict[str, float]:
    with running_server(fsync="everysec") as server:
        measured = drain(name, server.url, jobs)
    with running_server(fsync="everysec") as server:
        return measured | latency(name, server.url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60_000)
    parser.add_argument("--peer-jobs", type=int, default=20_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = [each for each in arguments.peers.split(",") if each]
    ours = [uvloop.run(throughput(arguments.jobs))["jobs_per_s"]]
    peers: dict[str, dict[str, float]] = {}
    for number, name in enumerate(names):
        if not installed(PEERS[name]):
            print(f"{name}: not installed, left out (python -m benchmarks.peers.install)")
            continue
        peers[name] = _peer(name, arguments.peer_jobs)
        print(f"{name}: {peers[name]}", flush=True)
        if number == len(names) // 2:
            ours.append(uvloop.run(throughput(arguments.jobs))["jobs_per_s"])
    ours.append(uvloop.run(throughput(arguments.jobs))["jobs_per_s"])
    waits = uvloop.run(our_latency(200, 10))
    middle = statistics.median(ours)
    print(f"\nours, three runs: {', '.join(f'{each:,.0f}' for each in ours)} jobs/s\n")
    print("| | jobs/s | ours is | p50 ms | p99 ms |\n|---|---|---|---|---|")
    print(
        f"| carbon-orchestrator, four hops | {middle:,.0f} | |"
        f" {waits['p50_ms']:.1f} | {waits['p99_ms']:.1f} |"
    )
    for name, figures in sorted(peers.items(), key=lambda each: -each[1]["jobs_per_s"]):
        print(
            f"| {name} | {figures['jobs_per_s']:,.0f} | {middle / figures['jobs_per_s']:.1f} × |"
            f" {figures['p50_ms']:.1f} | {figures['p99_ms']:.1f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"ours": ours, "latency": waits, "peers": peers}))


if __name__ == "__main__":
    main()
