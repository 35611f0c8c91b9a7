"""A container's output, followed over broken connections without a line lost or doubled."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from urllib.parse import urlencode

import anyio

from carbon_orchestrator.kubernetes.cluster import Cluster, ClusterError
from streams.retry import backoff

_SILENCE = 300.0  # seconds without output after which it is asked for anew
_LONGEST_STAMP = 40
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class StampedLines:
    """Takes the times off a log that has one before each line. When it `resumes`, the lines up to
    the last one that it knows are passed over. Feed it bytes; it gives those that are new."""

    __slots__ = ("_known", "_rest", "last")

    def __init__(self) -> None:
        self.last = ""  # the time of the last whole line: RFC 3339, nanoseconds
        self._known: _Moment | None = None  # up to which lines are passed over
        self._rest = b""

    def resume(self) -> None:
        """What comes now begins anew, with lines that may be known."""
        self._known = _moment(self.last) if self.last else None
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return b"".join(text + b"\n" for line in lines if (text := self._new(line)) is not None)

    def finish(self) -> bytes:
        """A last line without an end."""
        line, self._rest = self._rest, b""
        return self._new(line) or b"" if line else b""

    def _new(self, line: bytes) -> bytes | None:
        raw, _, text = line.partition(b" ")
        stamp = raw[:_LONGEST_STAMP].decode("ascii", "replace")
        if _STAMP.fullmatch(stamp) is None:  # not the container's word, but about it
            return line
        if self._known is not None and _moment(stamp) <= self._known:
            return None
        self._known = None  # a log is in order
        self.last = stamp
        return text


class PodLog:
    """Of one container of one pod, given to `write` until `end`, and to the last byte then."""

    def __init__(
        self, cluster: Cluster, pod: str, container: str, write: Callable[[bytes], None]
    ) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{cluster.access.namespace}/pods/{pod}/log"
        self._container = container
        self._write = write
        self._lines = StampedLines()
        self._over = False
        self._pause = anyio.CancelScope()

    def end(self) -> None:
        """The container has ended: there is nothing to come but what it has written."""
        self._over = True
        self._pause.cancel()

    async def run(self) -> None:
        """Until it ends, or the pod is gone."""
        waits = backoff(0.1, 5)
        over = False
        while not over:
            over = self._over
            query = {"container": self._container, "timestamps": "true"}
            query |= {} if over else {"follow": "true"}
            query |= {"sinceTime": self._lines.last} if self._lines.last else {}
            self._lines.resume()
            try:
                async with aclosing(
                    self._cluster.stream(f"{self._path}?{urlencode(query)}", _SILENCE)
                ) as pieces:
                    async for piece in pieces:
                        if new := self._lines.feed(piece):
                            waits = backoff(0.1, 5)
                            self._write(new)
                if over and (new := self._lines.finish()):
                    self._write(new)
            except ClusterError as error:
                if error.status == 404:
                    return
            if not over and not self._over:
                with anyio.move_on_after(next(waits)) as self._pause:
                    await anyio.sleep_forever()


_Moment = tuple[float, str]


def _moment(stamp: str) -> _Moment:
    """Seconds since the Unix epoch and nanoseconds, which a float could not tell apart. A node may
    write its local time."""
    match = _STAMP.fullmatch(stamp)
    assert match is not None
    whole, fraction, offset = match.groups()
    return datetime.fromisoformat(whole + offset).timestamp(), f"{fraction or '':0<9}"
