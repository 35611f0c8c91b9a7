"""`completion`: the shell completes commands and options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure

Shell = Literal["bash", "zsh", "fish"]
_WHERE: Mapping[Shell, str] = {
    "bash": "~/.local/share/bash-completion/completions/carbon-orchestrator",
    "zsh": "~/.zfunc/_carbon-orchestrator (with ~/.zfunc in $fpath, before compinit)",
    "fish": "~/.config/fish/completions/carbon-orchestrator.fish",
}


def completion(
    shell: Annotated[Shell | None, Parameter(name="SHELL")] = None,
    /,
) -> None:
    """Print a script that makes the shell complete commands.

    Put it where the shell finds it, or `source` it.

    Parameters
    ----------
    shell
        bash, zsh or fish; by default that of $SHELL.
    """
    from carbon_orchestrator.cli.main import app

    own = PurePath(os.environ.get("SHELL", "")).name
    name = shell or next((each for each in get_args(Shell) if each == own), None)
    if name is None:
        raise Failure("name the shell: bash, zsh or fish", USAGE)
    output.write(app.generate_completion(shell=name).rstrip("\n"))
    if output.interactive():
        output.hint(f"write this to {_WHERE[name]}")
