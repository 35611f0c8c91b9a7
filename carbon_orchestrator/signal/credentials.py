"""Keys for signal sources, out of sight: from the environment or a file, never into a log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from carbon_orchestrator.signal.provider import SignalError

HIDDEN = "[hidden]"
_LONGEST = 16_384  # characters; a JWT has some 1,000


class Secret:
    """A text that prints as [hidden]; `reveal` is the one way to it.

    `parts`: texts within it, or that it is made of, that are as secret.
    """

    __slots__ = ("_parts", "_text")

    def __init__(self, text: str, *parts: Secret) -> None:
        self._text, self._parts = text, parts

    def reveal(self) -> str:
        return self._text

    def hide_in(self, text: str) -> str:
        """`text` with [hidden] in place of this and its parts."""
        text = text.replace(self._text, HIDDEN) if self._text else text
        for part in self._parts:
            text = part.hide_in(text)
        return text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def credential(name: str, environment: Mapping[str, str] | None = None) -> Secret:
    """What the variable `name` holds, or else the file that `name`_FILE names.

    Read anew at each call, so that a rotated file is noticed. Raises SignalError (permanent),
    which names the variable and never its value.
    """
    environment = os.environ if environment is None else environment
    if environment.get(name):
        found, where = _usable(environment[name]), name
    elif path := environment.get(f"{name}_FILE"):
        found, where = _from_file(name, Path(path)), f"the file {path} ({name}_FILE)"
    else:
        raise SignalError(f"there is no key: set {name}, or {name}_FILE to a file", permanent=True)
    if found is None:
        raise SignalError(
            f"{where} holds no usable key: it must be one line of printable ASCII", permanent=True
        )
    return found


def _from_file(name: str, path: Path) -> Secret | None:
    try:
        with path.open(encoding="ascii") as file:
            return _usable(file.read(_LONGEST + 2))
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise SignalError(
            f"{name}_FILE: {path} cannot be read: {error.strerror}", permanent=True
        ) from None


def _usable(text: str) -> Secret | None:
    # A line break would end the header that carries it.
    text = text.strip()
    usable = 0 < len(text) <= _LONGEST and text.isascii() and text.isprintable()
    return Secret(text) if usable else None
