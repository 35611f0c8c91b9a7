"""API keys: what one is, what is kept of it, and whether a text is one. Pure, but for chance.

A key is `co_ID_SECRET`. Only the SHA-256 of the secret is kept. A password needs a slow, salted
hash because it can be guessed; a secret of 256 random bits cannot, with a fast hash either.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import msgspec

Scope = Literal["submit", "read", "operate", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: What else a scope allows.
_IMPLIED: Mapping[Scope, tuple[Scope, ...]] = {"admin": SCOPES, "operate": ("read",)}

#: Letters that are told apart when read aloud, as in job ids.
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LETTERS = 10
_KEY = re.compile(rf"co_([{_LETTERS}]{{{_ID_LETTERS}}})_([A-Za-z0-9_-]{{43}})", re.ASCII)
#: The hash of no secret: compared with where there is no such key, so that this takes as long.
_NO_HASH = "0" * 64


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is kept of a key. Times are wall ms. `project`: the only one it may see and use."""

    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created: int
    project: str | None = None
    expires: int | None = None
    revoked: int | None = None

    def usable(self, now: int) -> bool:
        """Whether it opens anything at `now`, wall ms."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    @property
    def allowed(self) -> frozenset[Scope]:
        """Its scopes and those that they imply."""
        return with_implied(self.scopes)


def with_implied(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes and what they imply."""
    return frozenset(each for scope in scopes for each in (scope, *_IMPLIED.get(scope, ())))


def new_id() -> str:
    """50 random bits: two keys must not meet, but this is not what guards them."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_ID_LETTERS))


def new_secret() -> str:
    """256 random bits, 43 characters."""
    return secrets.token_urlsafe(32)


def text_of(key_id: str, secret: str) -> str:
    """What the holder presents."""
    return f"co_{key_id}_{secret}"


def is_key_id(text: str) -> bool:
    return re.fullmatch(rf"[{_LETTERS}]{{{_ID_LETTERS}}}", text) is not None


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def identify(presented: str, known: Mapping[str, ApiKey], now: int) -> str | None:
    """The id of the known, usable key that was presented; None for anything else. Takes as long
    for an unknown id as for a wrong secret."""
    match = _KEY.fullmatch(presented)
    key_id, secret = match.groups() if match else ("", "")
    key = known.get(key_id)
    same = hmac.compare_digest(hashed(secret), _NO_HASH if key is None else key.sha256)
    return key_id if same and key is not None and key.usable(now) else None
