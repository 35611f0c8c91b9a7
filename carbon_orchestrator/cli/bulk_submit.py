"""Many jobs from a file or standard input, and what came of each."""

from __future__ import annotations

import sys
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import DONE, INTERRUPTED, NOT_WELL, USAGE, Failure, status_of
from carbon_orchestrator.cli.progress import progress

if TYPE_CHECKING:
    from carbon_orchestrator import OrchestratorError, SyncClient
    from carbon_orchestrator.client.bulk import Submitted

_READ = 1 << 20
_MOST_LINE = 16 << 20
_MOST_ARRAY = 256 << 20
_MOST_TOLD = 20  # errors, one a line
Piece = tuple[list[tuple[int, bytes]], float | None]


def submit_file(
    client: SyncClient, name: str, key: str | None, patience: float | None, json: bool
) -> int:
    """Submit what is in the file, each job's id on a line of its own; wait for `patience`
    seconds until they end, if there are any. Raises Failure."""
    key = f"cli-{uuid.uuid4().hex[:12]}" if key is None else key
    told = Told(json)
    try:
        with _opened(name) as file, progress() as bars:
            for lines, share in pieces(file, name):
                _send(client, lines, key, told)
                if bars is not None and share is not None:
                    bars(f"{told.counts.total()} jobs", share)
                if told.halted is not None:
                    break
    except KeyboardInterrupt:
        raise Failure(f"{told.summary()}; {_again(name, key)}", INTERRUPTED) from None
    if patience is not None and told.ids:
        if told.counts["refused"]:
            output.hint(f"{told.summary()}; {told.remedy(name, key)}")
        return max(told.status(), _wait(client, told.ids, patience, json))
    if told.halted is not None:
        raise Failure(
            f"{told.summary()}: {told.halted}; {_again(name, key)}", status_of(told.halted)
        )
    output.hint(told.summary())
    if told.counts["refused"]:
        output.hint(told.remedy(name, key))
    return told.status()


def _again(name: str, key: str) -> str:
    where = "the same lines" if name == "-" else "the file"
    return f"to go on without doubles, send {where} again with --idempotency-key {key}"


def _send(client: SyncClient, lines: list[tuple[int, bytes]], key: str, told: Told) -> None:
    """Submit them, and tell of each in their order."""
    if not lines:
        return
    numbers = deque(number for number, _ in lines)
    first = told.counts.total()
    waiting: dict[int, Submitted] = {}
    following = first
    for each in client.submit_each((text for _, text in lines), key=key, first=first):
        waiting[each.index] = each
        while following in waiting:
            told.tell(numbers.popleft(), waiting.pop(following))
            following += 1


class Told:
    """What came of the jobs so far, told as it comes. `json`: an object a line."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self.counts = Counter[str]()
        self.ids: list[str] = []
        self.halted: OrchestratorError | None = None
        self._moved = False

    def tell(self, number: int, each: Submitted) -> None:
        """Of the job on this line."""
        if each.job is not None:
            self.counts["repeated" if each.repeated else "accepted"] += 1
            self.ids.append(each.job.id)
            if self._json:
                self._write({"line": number, "id": each.job.id, "repeated": each.repeated})
            else:
                output.write(each.job.id)
            return
        error = each.error
        assert error is not None
        halts = status_of(error) != USAGE
        self.counts["unsent" if halts else "refused"] += 1
        self._moved = self._moved or error.kind == "idempotency-key-reused"
        if halts:
            self.halted = self.halted or error
        if self._json:
            field = getattr(error, "field", "")
            said = {"line": number, "error": str(error)}
            self._write({**said, "field": field} if field else said)
        elif not halts and self.counts["refused"] <= _MOST_TOLD:
            output.hint(f"line {number}: {output.printable(str(error))}")

    def _write(self, value: dict[str, Any]) -> None:
        output.write(msgspec.json.encode(value).decode())

    def status(self) -> int:
        """The exit status."""
        if self.halted is not None:
            return status_of(self.halted)
        return USAGE if self.counts["refused"] else DONE

    def remedy(self, name: str, key: str) -> str:
        """What to do about those that were refused."""
        if self._moved:
            return (
                f"under --idempotency-key {key} jobs go by their place in the file: have these"
                " lines changed, or moved because others were taken out? Mend lines where they"
                " stand, or send new jobs under a new key"
            )
        where = "them all" if name == "-" else "the whole file"
        return (
            f"mend what was refused where it stands, and send {where} again with"
            f" --idempotency-key {key}: no job is made twice"
        )

    def summary(self) -> str:
        """How many of what."""
        counts = self.counts
        parts = [f"{counts['accepted']} submitted"]
        parts += [f"{counts['repeated']} there already"] if counts["repeated"] else []
        parts += [f"{counts['refused']} refused"] if counts["refused"] else []
        parts += [f"{counts['unsent']} without an answer"] if counts["unsent"] else []
        unsaid = 0 if self._json else counts["refused"] - _MOST_TOLD
        return ", ".join(parts) + (f" (--json tells why, of {unsaid} more)" if unsaid > 0 else "")


def _wait(client: SyncClient, ids: list[str], patience: float, json: bool) -> int:
    """Until all have ended."""
    from carbon_orchestrator import NotEnded

    ended = Counter[str]()
    seen: set[str] = set()
    try:
        with progress() as bars:
            for job in client.follow(ids, timeout=patience):
                if job.ended and job.id not in seen:
                    seen.add(job.id)
                    ended[job.state] += 1
                    if json:
                        output.write(
                            msgspec.json.encode({"id": job.id, "state": job.state}).decode()
                        )
                    if bars is not None:
                        bars("ended", ended.total() / len(set(ids)))
    except NotEnded as error:
        raise Failure(f"{error}; see: carbon-orchestrator jobs") from None
    except KeyboardInterrupt:
        raise Failure("they go on; see: carbon-orchestrator jobs", INTERRUPTED) from None
    output.hint(", ".join(f"{count} {state}" for state, count in sorted(ended.items())))
    return DONE if set(ended) == {"completed"} else NOT_WELL


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Raises Failure."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        raise Failure(f"--file {name}: {error.strerror}", USAGE) from None


def pieces(file: BinaryIO, name: str) -> Iterator[Piece]:
    """The jobs as they are read, each with its line's number from 1 (in a JSON array, its place),
    and the share of the file that this makes, where that is known. Raises Failure."""
    size = _size(file)
    rest = _read(file)
    while rest and not rest.strip() and (more := _read(file)):
        rest += more
    if rest.lstrip().startswith(b"["):
        yield _array(file, rest, name), 1.0
        return
    number, done, more = 1, 0, b""
    while True:
        done += len(more or rest)
        *whole, rest = (rest + more if more else rest).split(b"\n")
        if len(rest) > _MOST_LINE:
            raise Failure(f"line {number + len(whole)}: over {_MOST_LINE >> 20} MiB", USAGE)
        share = done / size if size else None
        yield [(number + n, each) for n, each in enumerate(whole) if each.strip()], share
        number += len(whole)
        more = _read(file)
        if not more:
            break
    if rest.strip():
        yield [(number, rest)], 1.0


def _read(file: BinaryIO) -> bytes:
    """What there is by now, so that a slow writer's jobs do not wait for the next ones."""
    return file.read1(_READ)  # type: ignore[attr-defined,no-any-return]  # of buffered ones


def _size(file: BinaryIO) -> int:
    import os
    import stat

    try:
        told = os.fstat(file.fileno())
    except (OSError, ValueError):
        return 0
    return told.st_size if stat.S_ISREG(told.st_mode) else 0


def _array(file: BinaryIO, begun: bytes, name: str) -> list[tuple[int, bytes]]:
    text = begun + file.read(_MOST_ARRAY)
    if len(text) > _MOST_ARRAY:
        most = _MOST_ARRAY >> 20
        raise Failure(f"{name}: over {most} MiB as one array: write one object a line", USAGE)
    try:
        jobs = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{name}: not JSON ({error})", USAGE) from None
    return [(number, bytes(job)) for number, job in enumerate(jobs, 1)]
