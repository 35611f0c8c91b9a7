"""Two moons: labelled points of two interleaved half circles, a classic small test set.

Class 0 is the upper half of the unit circle, class 1 its mirror image pushed into it:
(1 - cos t, 1/2 - sin t), the shape of scikit-learn's `make_moons`; both with Gaussian noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi, sin
from random import Random

NOISE = 0.15  # standard deviation; the half circles have radius 1

Labelled = tuple[float, float, int]  # x, y, class 0 or 1


def moons(count: int, random: Random) -> Iterator[Labelled]:
    """`count` labelled points, the classes by turns; the same for the same state of `random`."""
    for place in range(count):
        angle = pi * random.random()
        x, y = cos(angle), sin(angle)
        label = place % 2
        if label:
            x, y = 1.0 - x, 0.5 - y
        yield x + random.gauss(0.0, NOISE), y + random.gauss(0.0, NOISE), label
