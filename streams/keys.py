"""Names of keys: every key is `<namespace>:{<partition>}:<name>`.

The braces put all keys of one partition into one hash slot, so one commit can touch them all
on a cluster. Names are formed by code from fixed words and generated ids, never by user input.
"""

from __future__ import annotations

import msgspec


class Partition(msgspec.Struct, frozen=True):
    """One share of the key space, whole by itself."""

    namespace: str = "carbon"
    number: int = 0

    def key(self, name: str) -> str:
        """The full key of `name` in this partition."""
        return f"{self.namespace}:{{{self.number}}}:{name}"

    def name(self, key: str) -> str:
        """The inverse of `key`. Raises ValueError for a key of another partition."""
        prefix = self.key("")
        if not key.startswith(prefix):
            raise ValueError(f"{key!r} is not a key of partition {self.number}")
        return key[len(prefix) :]
