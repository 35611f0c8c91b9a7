"""`logs`: what a job has written, and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.gateway_options import (
    DEFAULT_URL,
    ApiKeyFile,
    Url,
    gateway_client,
)

if TYPE_CHECKING:
    from carbon_orchestrator.client.live import LogPiece

#: Seconds for which a gateway that went away is waited for.
_PATIENCE = 60.0


def logs(
    job_id: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative="")] = False,
    offset: int = 0,
    json: Annotated[
        bool, Parameter(negative="", show_default=False, help="print pieces, JSON, one a line")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Print what a job has written: all its attempts, one after the other.

    Of much output only the last is kept. On a terminal a dim line tells attempts apart.

    Parameters
    ----------
    job_id
        Its id, as `submit` and `jobs` print it.
    follow
        Go on until the job ends, or Ctrl-C.
    offset
        From this byte of its output on.
    """
    client = gateway_client(url, api_key_file, patience=_PATIENCE)
    page = _Page(offset)
    for piece in client.log_pieces(job_id, follow=follow, offset=offset):
        if json:
            output.write(msgspec.json.encode(piece).decode())
        else:
            page.print(piece)
    page.end()


class _Page:
    """Output as it is printed: as it came where it is piped on; on a terminal without what would
    take that over, and with remarks between the pieces."""

    def __init__(self, offset: int) -> None:
        self._terminal = output.on_terminal()
        self._end = offset
        self._attempt = 0
        self._at_start = True  # of a line

    def print(self, piece: LogPiece) -> None:
        """Raises BrokenPipeError."""
        if not self._terminal:
            output.write(piece.text, end="")
            return
        if piece.offset > self._end:
            self._remark(f"{piece.offset - self._end} bytes are no longer kept")
        if piece.attempt != self._attempt and (self._attempt or piece.attempt > 1):
            self._remark(f"attempt {piece.attempt}")
        self._attempt, self._end = piece.attempt, piece.end
        text = piece.text.replace("\r\n", "\n").replace("\r", "\n")  # of a bar that redraws itself
        output.write(output.printable(text, lines=True), end="")
        self._at_start = text.endswith("\n")

    def _remark(self, text: str) -> None:
        self.end()
        output.note(f"— {text} —")

    def end(self) -> None:
        """Whatever comes next is to begin a line."""
        if self._terminal and not self._at_start:
            output.write("")
            self._at_start = True
