"""Whether the decoder, and the checks of a job, take any entry: never an error, never nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec

from benchmarks.fuzz.entries import Entries, Fields
from carbon_orchestrator.config import Config, complete
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.submission import Invalid, accept, digest, new_job_id
from carbon_orchestrator.topology import CODEC

_NOW = 1_700_000_000_000
_CONFIG = complete(Config())
_encode = msgspec.json.Encoder().encode


class Wrong(AssertionError):
    """The decoder did what it must not; says with which input."""


def check(fields: Fields, config: Config = _CONFIG) -> Counter[str]:
    """Decode one entry; how many events, faults, accepted and refused jobs it holds.

    Raises Wrong.
    """
    try:
        entry = CODEC.entry("jobs", "1-1", fields)
        check_items([each.index for each in (*entry.messages, *entry.faults)], fields)
        found = Counter(events=len(entry.messages), faults=len(entry.faults))
        for fault in entry.faults:
            if not fault.reason.encode():
                raise Wrong("a fault without a reason")
        for message in entry.messages:
            _encode(message.event)
            for text in (message.id, message.source, message.traceparent):
                (text or "").encode()
            if isinstance(message.event, JobSubmitted):
                found[_judged(message.event, config)] += 1
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}, with {fields!r}") from error
    return found


def check_items(indexes: list[int], fields: Fields) -> None:
    """Raises Wrong unless the events and faults of an entry are all of its items, each once."""
    if sorted(indexes) != list(range(len(indexes))):
        raise Wrong(f"items {sorted(indexes)}")
    if not indexes and b"batch" not in fields[::2]:
        raise Wrong("neither an event nor a fault")


def _judged(submitted: JobSubmitted, config: Config) -> str:
    digest(submitted).encode()
    try:
        spec = accept(submitted, config, new_job_id(0), _NOW)
    except Invalid as error:
        str(error).encode()
        return "refused"
    _encode(spec)
    return "accepted"


def fuzz(inputs: int, seed: int, tell: Callable[[str], None]) -> Counter[str]:
    """So many entries. Raises Wrong."""
    found: Counter[str] = Counter()
    supply = Entries(seed)
    began = told = time.monotonic()
    for number in range(1, inputs + 1):
        found += check(supply.entry())
        if time.monotonic() - told > 5:
            told = time.monotonic()
            tell(f"{number} of {inputs} entries, {number / (told - began):.0f} a second")
    return found
