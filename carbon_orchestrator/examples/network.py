"""A multi-layer perceptron with two inputs, one hidden layer and one output, in plain Python.

    p(class 1 | x, y) = logistic(offset + Σ out · tanh(wx·x + wy·y + bias))

It is fitted by gradient descent on the cross-entropy, whose derivative by the output's
argument is p - label (Bishop, Pattern Recognition and Machine Learning, 2006, section 5.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, isfinite, log1p, tanh
from random import Random
from typing import Any

from carbon_orchestrator.examples.moons import Labelled


class Network:
    """units: one [wx, wy, bias, out] for each hidden unit; offset: the output's bias."""

    __slots__ = ("offset", "units")

    def __init__(self, units: list[list[float]], offset: float) -> None:
        self.units = units
        self.offset = offset

    @classmethod
    def untrained(cls, hidden: int, random: Random) -> Network:
        """Small random weights, so that no two hidden units are alike."""
        return cls([[random.uniform(-1.0, 1.0) for _ in range(4)] for _ in range(hidden)], 0.0)

    @classmethod
    def from_json(cls, value: Any) -> Network:
        """The network that `to_json` described. Raises ValueError for anything else."""
        try:
            units = [[float(weight) for weight in unit] for unit in value["units"]]
            offset = float(value["offset"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError("not a network's weights") from None
        if not units or any(len(unit) != 4 for unit in units):
            raise ValueError("a network has one or more units of 4 weights each")
        if not all(isfinite(weight) for unit in units for weight in [*unit, offset]):
            raise ValueError("a network's weights are finite")
        return cls(units, offset)

    def to_json(self) -> dict[str, Any]:
        """JSON writes a float so that it reads back as the very same one: nothing is lost."""
        return {"units": self.units, "offset": self.offset}

    def score(self, x: float, y: float) -> float:
        """The log-odds of class 1; above 0 the point is taken for class 1."""
        score = self.offset
        for wx, wy, bias, out in self.units:
            score += out * tanh(wx * x + wy * y + bias)
        return score

    def learn(self, batch: Sequence[Labelled], rate: float) -> None:
        """One step of gradient descent on the mean cross-entropy of `batch` (not empty)."""
        units = self.units
        slopes = [[0.0] * 4 for _ in units]
        slope_of_offset = 0.0
        for x, y, label in batch:
            active = [tanh(wx * x + wy * y + bias) for wx, wy, bias, _ in units]
            score = self.offset
            for unit, activity in zip(units, active, strict=True):
                score += unit[3] * activity
            error = 0.5 * (1.0 + tanh(0.5 * score)) - label  # the logistic, without overflow
            slope_of_offset += error
            for unit, activity, slope in zip(units, active, slopes, strict=True):
                back = error * unit[3] * (1.0 - activity * activity)
                slope[0] += back * x
                slope[1] += back * y
                slope[2] += back
                slope[3] += error * activity
        step = rate / len(batch)
        self.offset -= step * slope_of_offset
        for unit, slope in zip(units, slopes, strict=True):
            for place in range(4):
                unit[place] -= step * slope[place]

    def evaluate(self, points: Iterable[Labelled]) -> tuple[float, float]:
        """Mean cross-entropy (nats) and accuracy (0-1) over `points` (not empty)."""
        loss = 0.0
        right = total = 0
        for x, y, label in points:
            score = self.score(x, y)
            # log(1 + e^score) - label · score, arranged so that exp cannot overflow.
            loss += max(score, 0.0) + log1p(exp(-abs(score))) - label * score
            right += (score > 0.0) == (label == 1)
            total += 1
        return loss / total, right / total
