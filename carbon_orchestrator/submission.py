"""From what somebody submitted to a job that can be decided about: all checks, pure."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from functools import lru_cache

import msgspec

from carbon_orchestrator.clock import parse_time, rfc3339, wall_ms
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import milliseconds, seconds
from carbon_orchestrator.events import JobSubmitted, Spec, Urgency
from streams.event import Message

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@/-]{0,63}")
_DATE = re.compile(r"\d{4}-")
_JOB_ID = re.compile(r"[0-9a-z]{26}-\d{1,5}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_MAX_LABELS = 32
_MAX_LABEL = 256
_MAX_DEADLINE_MS = 400 * 86_400_000
#: 9998-01-01: later times, or their deadlines, cannot be written as dates.
_LATEST_MS = 253_339_228_800_000


class Invalid(ValueError):
    """A submission that cannot be accepted. `field` is the path of the offending field."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownType(Invalid):
    """No handler is configured for the job's type."""


class DeadlinePassed(Invalid):
    """The deadline was over when the job was submitted."""


_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def _base32(number: int) -> str:
    """128 bits as 26 characters."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def new_job_id(partition: int, at: int | None = None) -> str:
    """A fresh id: 48 bits of time and 80 random bits (a ULID), then the partition. `at`: the wall
    time, ms, where that is known already."""
    while True:
        try:
            random = _random.popleft()
        except IndexError:
            _draw()
        else:
            return f"{_time32(wall_ms() if at is None else at)}{random}-{partition}"


#: 80 random bits each, as characters: asking the system for so few at a time takes longer than
#: all the rest. A child process must not use what its parent may use, too.
_random: deque[str] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.clear)

#: A character for each byte, all equally often.
_OF_BYTES = (_ALPHABET * 8).encode()


def _draw() -> None:
    text = os.urandom(16 * 256).translate(_OF_BYTES).decode()
    _random.extend([text[at : at + 16] for at in range(0, len(text), 16)])


@lru_cache(maxsize=64)
def _time32(ms: int) -> str:
    """48 bits as 10 characters."""
    return "".join([_PAIRS[ms >> shift & 1023] for shift in range(40, -1, -10)])


def derived_job_id(partition: int, *identity: str) -> str:
    """The id that belongs to an identity, the same each time: submitting twice is one job."""
    digest = hashlib.sha256("\0".join(identity).encode()).digest()
    return f"{_base32(int.from_bytes(digest[:16]))}-{partition}"


def is_job_id(text: str, partition: int) -> bool:
    """Whether `text` is formed like a job id of this partition."""
    return _JOB_ID.fullmatch(text) is not None and text.endswith(f"-{partition}")


def partition_of(text: str) -> int | None:
    """The partition that a job id ends in; None for what is no job id."""
    return int(text.rpartition("-")[2]) if _JOB_ID.fullmatch(text) is not None else None


def home_of(partitions: int, *identity: str) -> int:
    """The partition to which an identity belongs, the same each time."""
    digest = hashlib.sha256("\0".join(identity).encode()).digest()
    return int.from_bytes(digest[16:24]) % partitions


def is_name(text: str) -> bool:
    """Whether `text` may be a project's name, or anything else that a person names."""
    return len(text) <= 64 and _is_name(text)


@lru_cache(maxsize=4096)
def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def submitted_id(message: Message, partition: int, *, urgent: bool) -> str:
    """The id of the job that a `job.submitted` is about; `urgent`: it came in the urgent lane,
    where entries may have the same ids as in the other."""
    event: JobSubmitted = message.event
    if event.job_id is not None and is_job_id(event.job_id, partition):
        return event.job_id
    if message.id is not None:
        # CloudEvents: the same source and id is the same event, however often it comes.
        return derived_job_id(partition, "event", message.source or "", message.id)
    place = (message.entry_id, str(message.index), *(["urgent"] * urgent))
    return derived_job_id(partition, "entry", *place)


def rejected_spec(event: JobSubmitted, job_id: str, at: int) -> Spec:
    """What the record of a job says that was rejected: the head of it."""
    return Spec(
        job_id=job_id,
        type=event.type[:64],
        urgency=event.urgency,
        submitted_at=at,
        project=event.project[:64],
    )


def accept(
    submitted: JobSubmitted,
    config: Config,
    job_id: str,
    now: int,
    traceparent: str | None = None,
) -> Spec:
    """The job that was submitted at `now` (grid ms). Raises Invalid with the field's path."""
    job_type = config.types.get(submitted.type)
    if job_type is None:
        known = ", ".join(sorted(config.types))
        raise UnknownType(f"no type {submitted.type[:64]!r} is configured; known: {known}", "type")
    if not 0 <= now <= _LATEST_MS:
        raise Invalid("a time after 1970 and before 9998", "submitted_at")
    if len(submitted.payload) > config.limits.max_payload:
        raise Invalid(f"the payload is over {config.limits.max_payload} bytes", "payload")
    _check_payload(bytes(submitted.payload))
    if not is_name(submitted.project):
        raise Invalid("a project is 1-64 letters, digits and _ . @ / -", "project")
    if submitted.labels:
        _check_labels(submitted.labels)
    if submitted.zones:
        _check_zones(submitted.zones, config)
    if submitted.max_attempts is not None and not 1 <= submitted.max_attempts <= 100:
        raise Invalid("max_attempts must be 1 to 100", "max_attempts")
    length, timeout = submitted.expected_duration, submitted.timeout
    return Spec(
        job_id=job_id,
        type=submitted.type,
        urgency=submitted.urgency,
        submitted_at=now,
        deadline=deadline_of(submitted.deadline, submitted.urgency, config, now),
        payload=submitted.payload,
        expected_duration=None if length is None else _length("expected_duration", length),
        interruptible=submitted.interruptible,
        zones=submitted.zones,
        project=submitted.project,
        labels=submitted.labels,
        timeout=None if timeout is None else _length("timeout", timeout),
        max_attempts=submitted.max_attempts,
        traceparent=traceparent,
    )


def _check_payload(raw: bytes) -> None:
    if not raw.startswith(b"{") and not raw.lstrip().startswith(b"{"):
        raise Invalid("the payload must be a JSON object", "payload")
    if raw.isascii():
        return
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise Invalid("the payload must be UTF-8 text", "payload") from None


def deadline_of(
    value: str | float | None, urgency: Urgency, config: Config, now: int
) -> int | None:
    """The time (grid ms) that a deadline means at `now`: a time, a length of time from then, or
    for None what is configured for the urgency. Raises Invalid."""
    if value is None:
        default = config.urgency[urgency].deadline
        return None if default == "none" else now + milliseconds(default)
    try:
        if isinstance(value, str) and value[4:5] == "-" and _DATE.match(value):
            deadline = parse_time(value)
        else:
            deadline = now + milliseconds(value)
    except ValueError as error:
        raise Invalid(f"{error}; or a time such as 2026-01-31T18:00:00Z", "deadline") from None
    if deadline <= now:
        raise DeadlinePassed(
            f"the deadline {rfc3339(max(0, deadline))} is over; the clock stands at {rfc3339(now)}",
            "deadline",
        )
    if deadline > now + _MAX_DEADLINE_MS:
        raise Invalid(
            f"the deadline is over 400 days away; the clock stands at {rfc3339(now)}", "deadline"
        )
    return deadline


def _length(field: str, value: str | float) -> float:
    try:
        length = seconds(value)
    except ValueError as error:
        raise Invalid(str(error), field) from None
    if length <= 0:
        raise Invalid("must be above 0", field)
    return length


def _check_zones(zones: list[str], config: Config) -> None:
    known = [config.zone, *config.zones]
    for index, zone in enumerate(zones):
        if zone not in known:
            raise Invalid(f"no such zone; known: {', '.join(known)}", f"zones.{index}")
    if len(set(zones)) != len(zones):
        raise Invalid("name each zone once", "zones")


def _check_labels(labels: dict[str, str]) -> None:
    if len(labels) > _MAX_LABELS:
        raise Invalid(f"at most {_MAX_LABELS} labels", "labels")
    for name, value in labels.items():
        if not is_name(name):
            raise Invalid("a label's name is 1-64 letters, digits and _ . @ / -", "labels")
        if len(value) > _MAX_LABEL:
            raise Invalid(f"a label's value has at most {_MAX_LABEL} characters", f"labels.{name}")


_canonical = msgspec.json.Encoder(order="deterministic")


def digest(submitted: JobSubmitted) -> str:
    """A fingerprint of a submission's content, independent of field order and spacing."""
    rest = _canonical.encode(msgspec.structs.replace(submitted, payload=msgspec.Raw(b"{}")))
    try:
        # The standard library's, as it keeps integers of any size apart.
        payload = json.dumps(json.loads(bytes(submitted.payload)), sort_keys=True).encode()
    except (ValueError, RecursionError):
        payload = bytes(submitted.payload)
    return hashlib.sha256(rest + payload).hexdigest()[:32]
