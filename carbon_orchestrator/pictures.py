"""What all pictures have in common: their files, and the library that draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SUFFIXES = (".svg", ".png")


class PictureError(Exception):
    """The picture cannot be drawn; the message says what to do."""


def check(path: Path) -> None:
    """Raises PictureError for a file that no picture can be drawn to."""
    if path.suffix.lower() not in SUFFIXES:
        raise PictureError(f"{path}: a picture is {' or '.join(SUFFIXES)}; name it so")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PictureError(
            "a picture needs matplotlib; install carbon-orchestrator[plot], or leave --plot out"
        ) from None


def canvas(path: Path) -> Any:
    """matplotlib's pyplot, without a screen. Raises PictureError as `check`."""
    check(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
