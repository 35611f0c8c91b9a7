"""The command line of chaos; exit status 1 if anything is lost, double or wrong."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import chaos
from benchmarks.chaos.plan import GROUPS, KINDS, NOT_ON_CLUSTERS, Plan, chosen
from benchmarks.chaos.running import run
from benchmarks.chaos.strikes import schedule


def _faults(text: str) -> tuple[str, ...]:
    try:
        return chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _on(partitions: int, faults: tuple[str, ...]) -> tuple[str, ...]:
    """What of these is done to a cluster, or to a server."""
    return tuple(each for each in faults if partitions == 1 or each not in NOT_ON_CLUSTERS)


def _span(text: str) -> tuple[float, float]:
    shortest, _, longest = text.partition("-")
    return float(shortest), float(longest or shortest)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=(chaos.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--runs", type=int, default=1, help="seeds follow each other")
    parser.add_argument("--rate", type=float, default=100.0, help="jobs published per second")
    parser.add_argument(
        "--faults",
        type=_faults,
        default=KINDS,
        help=f"comma-separated, of {', '.join([*KINDS, *GROUPS])}",
    )
    parser.add_argument("--between", type=_span, default=(1.0, 2.0), help="strikes, s, as 1-2")
    parser.add_argument("--fsync", choices=("everysec", "always"), default="always")
    parser.add_argument("--durability", choices=("server", "replica"), default="replica")
    parser.add_argument("--server", help="another server program than the bundled one")
    parser.add_argument(
        "--partitions", type=int, default=1, help="of several, on a cluster of three nodes"
    )
    parser.add_argument("--json", type=Path, help="also write the reports there")
    parser.add_argument("--dry", action="store_true", help="only print the strikes of the seed")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    reports: list[dict[str, Any]] = []
    sound = True
    for number in range(arguments.runs):
        plan = Plan(
            seed=arguments.seed + number,
            seconds=arguments.minutes * 60,
            rate=arguments.rate,
            faults=_on(arguments.partitions, arguments.faults),
            between=arguments.between,
            fsync=arguments.fsync,
            durability=arguments.durability,
            program=arguments.server,
            partitions=arguments.partitions,
        )
        print(f"seed {plan.seed}", flush=True)
        if arguments.dry:
            for each in schedule(plan):
                print(f"{each.at:8.1f} s  {each.kind:12}{each.target:14}{each.seconds:5.1f} s")
            continue
        outcome = uvloop.run(run(plan))
        reports.append(outcome.report())
        print(json.dumps(reports[-1], indent=1))
        verdict = "sound" if outcome.sound else "NOT SOUND"
        print(f"{verdict}: lost {len(outcome.findings.lost)}, wrong {outcome.wrong}", flush=True)
        sound = sound and outcome.sound
    if arguments.json:
        arguments.json.write_text(json.dumps(reports))
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
