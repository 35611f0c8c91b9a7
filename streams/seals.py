"""Tamper evidence: runs of entries are sealed by hash, and the seals of all streams form one chain.

A seal states the digest of the entries of one stream from the last seal of that stream on, and
the hash of the seal before it, whichever stream that was about. Whoever keeps the number and
hash of one seal (the head, a line of text) can tell whether anything before it was altered,
deleted, inserted or put into another order: `proof.py` does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

#: Names in every partition: the stream of seals, and the hash of the last seal's `number` and
#: `head`, and of every stream's last sealed id (by the stream's name).
SEALS = "seals"
CHAIN = "chain"

_size = struct.Struct(">Q").pack


class SegmentSealed(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of `stream` after its seal before, up to `last`, are these. Hashes are hex."""

    event_type: ClassVar[str] = "segment.sealed"
    number: int  # 1, 2, ... over all streams
    stream: str  # the name in its partition
    first: str
    last: str
    entries: int
    digest: str
    previous: str  # the hash of seal `number - 1`; "" for the first


def _hashed(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join([piece for p in parts for piece in (_size(len(p)), p)])).digest()


def entry_hash(entry_id: str, fields: Sequence[bytes]) -> bytes:
    """SHA-256 of an entry: its id and its names and values, each with its length before it."""
    return _hashed((entry_id.encode(), *fields))


def segment_digest(hashes: Iterable[bytes]) -> str:
    """SHA-256, hex, of the hashes of a segment's entries, in order."""
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def seal_hash(seal: SegmentSealed) -> str:
    """SHA-256, hex, of all that a seal states."""
    return _hashed(str(value).encode() for value in msgspec.structs.astuple(seal)).hex()
