"""Job type `inference`: classifies points with a trained network, batch by batch.

Payload, all optional: `points` ([[x, y], ...]) to classify, or else `count` and `seed` of
labelled points to make up; `batch_size`. Prints one JSON object.

The weights beside this file are what `training` makes by default; to remake them:

    python -m carbon_orchestrator.examples.training --export moons.json < /dev/null
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, NamedTuple

from carbon_orchestrator.examples.moons import moons
from carbon_orchestrator.examples.network import Network
from carbon_orchestrator.examples.payload import Payload, run
from carbon_orchestrator.examples.progress import Progress

WEIGHTS = Path(__file__).with_name("moons.json")
MAX_POINTS = 2_000  # given ones: their classes have to fit into the output kept on record

Point = tuple[float, float, int | None]  # x, y, and the class where it is known


class Parameters(NamedTuple):
    points: list[tuple[float, float]] | None
    made: int  # how many to make up where no points are given
    seed: int
    batch_size: int


def check(payload: Payload) -> Parameters:
    return Parameters(
        points=payload.points("points", 1e6, MAX_POINTS),
        made=payload.integer("count", 200_000, 1, 1_000_000),
        seed=payload.integer("seed", 2, 0, 2**31 - 1),
        batch_size=payload.integer("batch_size", 256, 1, 10_000),
    )


def batches(parameters: Parameters) -> Iterator[list[Point]]:
    """The points to classify, `batch_size` at a time, so that memory does not grow with them."""
    points: Iterator[Point]
    if parameters.points is None:
        points = iter(moons(parameters.made, Random(parameters.seed)))
    else:
        points = ((x, y, None) for x, y in parameters.points)
    while batch := list(islice(points, parameters.batch_size)):
        yield batch


def job(parameters: Parameters) -> int:
    network = Network.from_json(json.loads(WEIGHTS.read_bytes()))
    counts = [0, 0]
    right = labelled = 0
    classes: list[int] = []
    seconds: list[float] = []
    progress = Progress()
    given = parameters.made if parameters.points is None else len(parameters.points)
    for batch in batches(parameters):
        start = perf_counter()
        predicted = [int(network.score(x, y) > 0.0) for x, y, _ in batch]
        seconds.append(perf_counter() - start)
        for (_, _, label), found in zip(batch, predicted, strict=True):
            counts[found] += 1
            if label is not None:
                labelled += 1
                right += found == label
        if parameters.points is not None:
            classes += predicted
        progress.tell(sum(counts), given, "points")
    report: dict[str, Any] = {
        "points": sum(counts),
        "predicted": {"0": counts[0], "1": counts[1]},
        "batches": len(seconds),
        "batch_latency_ms": {
            "mean": round(1e3 * sum(seconds) / len(seconds), 3),
            "max": round(1e3 * max(seconds), 3),
        },
        "points_per_second": round(sum(counts) / max(sum(seconds), 1e-9)),
    }
    if labelled:
        report["accuracy"] = round(right / labelled, 4)
    if classes:
        report["classes"] = "".join(map(str, classes))  # a digit a point, in the order given
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    run(check, job)
