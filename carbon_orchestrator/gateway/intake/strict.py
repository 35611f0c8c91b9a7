"""Submissions as strictly as JSON can be read: no field that there is not, none twice."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec

from carbon_orchestrator.events import JobSubmitted, Urgency

_DEEPEST = 64
#: Everything but the payload, bytes: with all labels there may be, a third of it.
_MOST_BESIDE = 64 << 10
_OURS = ("job_id", "submitted_at")
_URGENCIES = ", ".join(get_args(Urgency)[:-1]) + f" or {get_args(Urgency)[-1]}"
_UNKNOWN = "Object contains unknown field `"
_MISSING = "Object missing required field `"
_NO_CHOICE = "Invalid enum value "


class Submission(JobSubmitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as submitted over HTTP. Streams ignore unknown fields, so that publishers may be
    newer than their readers; a person's typing mistake must not be ignored."""


class Line(Submission, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of many that come together: its Idempotency-Key, if any, is beside its fields."""

    idempotency_key: str | None = None


FIELDS = [each for each in Submission.__struct_fields__ if each not in _OURS]
_decoder = msgspec.json.Decoder(Submission)
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_line_decoder = msgspec.json.Decoder(Line)


class Malformed(ValueError):
    """This is no JSON that means one thing only."""


class WrongField(ValueError):
    """A field that is not there, or not of its type; `field`: its path."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class Read(NamedTuple):
    """What was submitted; it as JSON, as strictly said; and whether it named a project."""

    submitted: JobSubmitted
    data: bytes
    named_project: bool


def submission(body: bytes, max_payload: int) -> Read:
    """Raises Malformed, WrongField."""
    return _read(body, _decoder, max_payload)


def line(body: bytes, max_payload: int) -> tuple[Read, str | None]:
    """As `submission`, and its idempotency key."""
    read = _read(body, _line_decoder, max_payload)
    assert isinstance(read.submitted, Line)
    key = read.submitted.idempotency_key
    if key is not None:
        submitted = msgspec.structs.replace(read.submitted, idempotency_key=None)
        read = Read(submitted, _encode(submitted), read.named_project)
    return read, key


def lines(rows: Sequence[bytes], max_payload: int) -> list[Read] | None:
    """As `line` of each row, where it is plain to see (see `_plain_names`) that there is nothing
    wrong with any, and none has an idempotency key; else None. The rows are lines, none empty.

    What is said of one submission is said of all at once, in half of the time.
    """
    body = b"".join(rows)
    # A line ends where an object ends, and nowhere else, or two could be read as one.
    if len(body) > min(max_payload, _MOST_BESIDE) or body.count(b"}\n{") != len(rows) - 1:
        return None
    if b"\\" in body or max([_openings(row) for row in rows]) > _DEEPEST:
        return None
    try:
        submitted = _decoder.decode_lines(body)
        values = _any.decode_lines(body)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if len(submitted) != len(rows) or body.count(b'"') != _encode_lines(values).count(b'"'):
        return None
    if any("job_id" in each or "submitted_at" in each for each in values):
        return None
    data = _encode_lines(submitted).split(b"\n")
    return [
        Read(each, text, "project" in value)
        for each, text, value in zip(submitted, data, values, strict=False)
    ]


_S = TypeVar("_S", bound=Submission)


def _read(body: bytes, decoder: msgspec.json.Decoder[_S], max_payload: int) -> Read:
    try:
        submitted = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise wrong(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"this is not JSON: {error}") from None
    if len(submitted.payload) > max_payload:  # before anybody looks into it
        raise WrongField(f"the payload is over {max_payload} bytes", "payload")
    if len(body) - len(submitted.payload) > _MOST_BESIDE:
        raise Malformed(f"all but the payload is over {_MOST_BESIDE} bytes")
    given = names(body)
    for field in _OURS:
        if field in given:
            raise WrongField(f"{field} is set by the gateway", field)
    return Read(submitted, _encode(submitted), "project" in given)


def wrong(said: str, known: Sequence[str] = FIELDS) -> WrongField:
    """What a msgspec.ValidationError says, with the field; `known`: those that there are."""
    text, _, path = said.partition(" - at `$")
    if text.startswith(_MISSING):
        return WrongField(said, text.removeprefix(_MISSING).rstrip("`"))
    if text.startswith(_NO_CHOICE) and path == ".urgency`":
        given = text.removeprefix(_NO_CHOICE)
        return WrongField(f"an urgency is {_URGENCIES}, not {given[:64]}", "urgency")
    if not text.startswith(_UNKNOWN):
        return WrongField(said, path.strip("`.") or text)
    field = text.removeprefix(_UNKNOWN).rstrip("`")[:64]
    close = difflib.get_close_matches(field, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return WrongField(f"there is no field {field!r}; {hint}", field)


def names(body: bytes) -> Collection[str]:
    """The fields of the JSON object in `body`. Raises Malformed where any object in it has a
    name twice, as readers differ in which of the two they take, or is nested too deeply."""
    found = _plain_names(body)
    return _exact_names(body) if found is None else found


def _plain_names(body: bytes) -> Collection[str] | None:
    """The same, if it is plain to see that no object has a name twice and none is nested too
    deeply.

    Where nothing is escaped each string is between two quotation marks, and there are no others.
    Of two equal names a reader keeps one: so, where the same is written again, fewer strings are
    left if there were any.
    """
    if b"\\" in body or _openings(body) > _DEEPEST:
        return None
    try:
        value = _any.decode(body)
        same = body.count(b'"') == _encode(value).count(b'"')
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return value if same and type(value) is dict else None


def _openings(body: bytes) -> int:
    """How many objects and lists begin, at most."""
    return body.count(b"{") + body.count(b"[")


def _exact_names(body: bytes) -> frozenset[str]:
    outermost: frozenset[str] = frozenset()

    def depth(pairs: list[tuple[str, Any]]) -> int:
        nonlocal outermost
        outermost = frozenset(name for name, _ in pairs)
        if len(outermost) != len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise Malformed(f"the name {twice[:64]!r} stands twice in one object")
        return 1 + max((_depth(value) for _, value in pairs), default=0)

    try:
        deepest = _depth(
            json.loads(
                body.decode(),
                object_pairs_hook=depth,
                parse_int=_number,
                parse_float=_number,
                parse_constant=_no_number,
            )
        )
    except UnicodeDecodeError:
        return outermost  # in the payload, of which more is said where it is checked
    except RecursionError:
        deepest = _DEEPEST + 1
    except json.JSONDecodeError as error:
        raise Malformed(f"this is not JSON: {error}") from None
    if deepest > _DEEPEST:
        raise Malformed(f"nested over {_DEEPEST} deep")
    return outermost


def _depth(value: Any) -> int:
    """How deep a value is: objects are read as their depth, and all else but lists as 0."""
    if type(value) is list:
        return 1 + max(map(_depth, value), default=0)
    return value if type(value) is int else 0


def _number(text: str) -> int:
    """Numbers are not looked at: one of thousands of digits would take long."""
    return 0


def _no_number(text: str) -> int:
    raise Malformed(f"this is not JSON: {text} is no JSON number")
