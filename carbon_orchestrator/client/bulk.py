"""Many jobs as NDJSON: lines, their answers, and how many go into one request. Pure.

A line is a submission with its idempotency key, so that it may be sent any number of times.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from carbon_orchestrator.client.errors import InvalidJob, OrchestratorError
from carbon_orchestrator.client.jobs import Job
from carbon_orchestrator.client.submission import encoded

MOST_LINES = 1000
MOST_BYTES = 1 << 20
#: A job as a mapping of what `submit` takes, or as a line of JSON.
Given = Mapping[str, Any] | bytes
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_BESIDE = ("key", "traceparent")  # of what is given with a job, what is not in its body


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the job at place `index`: a `job` or an `error`. `repeated`: its idempotency
    key was used before, and this is the job that it made then."""

    index: int
    job: Job | None = None
    error: OrchestratorError | None = None
    repeated: bool = False


class Line(msgspec.Struct, frozen=True):
    """`body`: the job without its key, as sent alone; `text`: with it."""

    index: int
    key: str
    body: bytes
    text: bytes
    traceparent: str | None = None


class LineAnswer(msgspec.Struct, frozen=True):
    """`line` counts from 1; `state`: of the job that a key stood for already, where it is told."""

    line: int
    status: int
    id: str = ""
    state: str | None = None
    problem: dict[str, Any] = {}


class Answers(msgspec.Struct, frozen=True):
    """`submitted_at`: grid time of all jobs that were accepted."""

    results: list[LineAnswer]
    submitted_at: str | None = None


def line(index: int, job: Given, key: str | None) -> Line:
    """`key`: for all jobs, made into this one's with its place. Raises InvalidJob."""
    if isinstance(job, bytes):
        return _raw(index, job, key)
    own = job.get("key")  # which may be None
    own = _of_place(key, index) if own is None else str(own)
    body = encoded({name: value for name, value in job.items() if name not in _BESIDE})
    return Line(index, own, body, _keyed(body, own), job.get("traceparent"))


def _raw(index: int, text: bytes, key: str | None) -> Line:
    # Within JSON's strings there are no such characters, so these are blanks.
    text = text.translate(_ONE_LINE).strip()
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        own = fields.get("idempotency_key")
        if own is None:
            own_key = _of_place(key, index)
            return Line(index, own_key, text, _keyed(text, own_key))
        own_key = msgspec.json.decode(own, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJob(f"not a JSON object ({error})") from None
    del fields["idempotency_key"]
    return Line(index, own_key, msgspec.json.encode(fields), text)


def _of_place(key: str | None, index: int) -> str:
    return uuid.uuid4().hex if key is None else f"{key}-{index}"


def _keyed(body: bytes, key: str) -> bytes:
    rest = body[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"idempotency_key":' + json.dumps(key).encode() + comma + rest


class Lines:
    """Takes jobs as they are needed, at most MOST_LINES or MOST_BYTES of them at a time."""

    def __init__(self, jobs: Iterator[Given], key: str | None, first: int = 0) -> None:
        self._jobs = enumerate(jobs, first)
        self._key = key
        self._over: Line | None = None

    def take(self) -> tuple[list[Line], list[Submitted]]:
        """The next ones, and those that cannot be sent; both empty at the end. A job with a trace
        context, which is a header's, is alone."""
        lines, wrong, size = list[Line](), list[Submitted](), 0
        while len(lines) + len(wrong) < MOST_LINES:
            made = self._next()
            if made is None:
                break
            if isinstance(made, Submitted):
                wrong.append(made)
                continue
            size += len(made.text) + 1
            if lines and (size > MOST_BYTES or made.traceparent is not None):
                self._over = made
                break
            lines.append(made)
            if made.traceparent is not None:
                break
        return lines, wrong

    def _next(self) -> Line | Submitted | None:
        over, self._over = self._over, None
        if over is not None:
            return over
        for index, job in self._jobs:
            try:
                return line(index, job, self._key)
            except InvalidJob as error:
                return Submitted(index=index, error=error)
        return None


def ndjson(lines: Sequence[Line]) -> bytes:
    """The body of a request."""
    return b"\n".join(each.text for each in lines) + b"\n"


def accepted(line: Line, job_id: str, state: str, submitted_at: str) -> Job:
    """A job as far as it is known from its line and its answer."""
    said = msgspec.json.decode(line.body)
    names = ("type", "urgency", "project", "labels", "interruptible")
    told = {name: said[name] for name in names if said.get(name) is not None}
    head = {"id": job_id, "state": state, "submitted_at": submitted_at}
    return msgspec.convert({**told, **head}, Job)
