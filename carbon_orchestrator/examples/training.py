"""Job type `training`: fits a small neural network to two moons, and can be interrupted.

Payload, all optional: `hidden` units, `epochs`, `learning_rate`, `batch_size`, `samples`,
`seed`, `checkpoint_every` (epochs). Losses go to stdout, a JSON object last.

Where $CARBON_CHECKPOINT_DIR is set, the state is saved there now and then and after SIGTERM,
and a run that finds it goes on from it: the final weights are the same, bit for bit, as if
nothing had happened. Every random number therefore follows from the seed and the epoch alone,
so that the weights and the place (epoch, batch) are the whole state.

`python -m carbon_orchestrator.examples.training --export FILE` also writes the weights to FILE.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from carbon_orchestrator.examples.moons import Labelled, moons
from carbon_orchestrator.examples.network import Network
from carbon_orchestrator.examples.payload import Payload, run
from carbon_orchestrator.examples.progress import Progress

HELD_OUT = 500  # points that are never learned from: loss and accuracy are told of these
REPORTS = 10  # lines of progress
MAX_EPOCHS = 10_000


class Parameters(NamedTuple):
    hidden: int
    epochs: int
    learning_rate: float
    batch_size: int
    samples: int
    seed: int
    checkpoint_every: int


def check(payload: Payload) -> Parameters:
    # hidden × batch_size bounds the time to the next batch, and so the answer to SIGTERM.
    return Parameters(
        hidden=payload.integer("hidden", 8, 1, 64),
        epochs=payload.integer("epochs", 60, 1, MAX_EPOCHS),
        learning_rate=payload.number("learning_rate", 0.3, 1e-6, 10.0),
        batch_size=payload.integer("batch_size", 16, 1, 256),
        samples=payload.integer("samples", 2_000, 10, 100_000),
        seed=payload.integer("seed", 1, 0, 2**31 - 1),
        checkpoint_every=payload.integer("checkpoint_every", 5, 1, MAX_EPOCHS),
    )


def random_of(seed: int, epoch: int) -> Random:
    """A generator for each epoch (1, 2, ...), and one (0) for what comes before the first."""
    return Random(seed * (MAX_EPOCHS + 1) + epoch)


class Training:
    """The whole state of a run: the network and how far it has come."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.epoch = 1  # the one under way
        self.batch = 0  # batches of it that are done
        random = random_of(parameters.seed, 0)
        self.network = Network.untrained(parameters.hidden, random)
        self.points = list(moons(parameters.samples, random))
        self.held_out = list(moons(HELD_OUT, random))

    @property
    def finished(self) -> bool:
        return self.epoch > self.parameters.epochs

    def batches_left(self) -> Iterator[list[Labelled]]:
        """The batches of this epoch, in its own order, that are not yet done."""
        order = list(range(len(self.points)))
        random_of(self.parameters.seed, self.epoch).shuffle(order)
        size = self.parameters.batch_size
        for start in range(self.batch * size, len(order), size):
            yield [self.points[place] for place in order[start : start + size]]

    def learn(self, batch: list[Labelled]) -> None:
        self.network.learn(batch, self.parameters.learning_rate)
        self.batch += 1

    def end_epoch(self) -> None:
        self.epoch += 1
        self.batch = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters._asdict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "network": self.network.to_json(),
        }

    def restore(self, state: Any) -> None:
        """Go on from what `to_json` gave. Raises ValueError if it is not of these parameters."""
        parameters = self.parameters
        if not isinstance(state, dict) or state.get("parameters") != parameters._asdict():
            raise ValueError("it is of a run with other parameters")
        epoch, batch = state.get("epoch"), state.get("batch")
        network = Network.from_json(state.get("network"))
        if type(epoch) is not int or not 1 <= epoch <= parameters.epochs + 1:
            raise ValueError("its epoch is out of range")
        if type(batch) is not int or not 0 <= batch <= parameters.samples:
            raise ValueError("its batch is out of range")
        if len(network.units) != parameters.hidden:
            raise ValueError("its network is of another size")
        self.epoch, self.batch, self.network = epoch, batch, network


class Checkpoint:
    """The saved state of a run, one file; None for `directory` keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._file = directory / "checkpoint.json" if directory else None

    def save(self, training: Training) -> None:
        """Replace the file at once: whoever kills us, the old or the new one is whole."""
        if self._file:
            write_json(self._file, training.to_json())

    def load_into(self, training: Training) -> None:
        """Go on from the file, if there is one that can be used; say so either way."""
        if self._file is None or not self._file.exists():
            return
        try:
            training.restore(json.loads(self._file.read_bytes()))
        except (OSError, ValueError, RecursionError) as error:
            print(f"starting over, the checkpoint cannot be used: {error}", flush=True)
        else:
            print(f"resuming at epoch {training.epoch}, batch {training.batch + 1}", flush=True)


def write_json(file: Path, value: Any) -> None:
    """Write `file` atomically. Not synced to disk: a power cut costs time, not the result."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(draft, file)


class Stop:
    """Remembers the first signal that asked us to stop, for the loop to look at."""

    signal: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        self.signal = self.signal or number


def train(training: Training, checkpoint: Checkpoint, stop: Stop) -> None:
    """Run to the last epoch, or save the state and return after the batch when stopped."""
    parameters = training.parameters
    report_every = max(1, parameters.epochs // REPORTS)
    progress = Progress()
    progress.tell(training.epoch - 1, parameters.epochs, "epoch")
    while not training.finished:
        for batch in training.batches_left():
            if stop.signal:
                checkpoint.save(training)
                return
            training.learn(batch)
        epoch = training.epoch
        training.end_epoch()
        progress.tell(epoch, parameters.epochs, "epoch")
        if epoch % parameters.checkpoint_every == 0 or training.finished:
            checkpoint.save(training)
        if epoch % report_every == 0 or training.finished:
            loss, accuracy = training.network.evaluate(training.held_out)
            place = f"epoch {epoch:{len(str(parameters.epochs))}}/{parameters.epochs}"
            print(f"{place}  loss {loss:.4f}  accuracy {accuracy:.3f}", flush=True)


def job(parameters: Parameters, export: Path | None = None) -> int:
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    directory = os.environ.get("CARBON_CHECKPOINT_DIR")
    checkpoint = Checkpoint(Path(directory) if directory else None)
    training = Training(parameters)
    try:
        checkpoint.load_into(training)
        train(training, checkpoint, stop)
        if stop.signal and not training.finished:
            print(f"stopped in epoch {training.epoch}, batch {training.batch + 1}", flush=True)
            return 128 + stop.signal  # as a shell tells a death by signal
        if export:
            write_json(export, training.network.to_json())
    except OSError as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    loss, accuracy = training.network.evaluate(training.held_out)
    result = {"epochs": parameters.epochs, "loss": round(loss, 6), "accuracy": round(accuracy, 4)}
    print(json.dumps(result))
    return 0


def main() -> None:
    match sys.argv[1:]:
        case []:
            run(check, job)
        case ["--export", file]:
            run(check, lambda parameters: job(parameters, Path(file)))
        case _:
            print("usage: training [--export FILE] < PAYLOAD", file=sys.stderr)
            raise SystemExit(2)


if __name__ == "__main__":
    main()
