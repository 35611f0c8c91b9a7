"""Told from faults that pass: the server, or its certificate, that will not have us."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from redis import exceptions as redis_errors

from streams.errors import Forbidden, Refused

#: Of OpenSSL's reasons, those that another attempt cannot change.
_TLS_REASONS = re.compile(
    r"CERT|UNKNOWN_CA|WRONG_VERSION|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|HANDSHAKE_FAILURE"
)
#: As Valkey says it, Redis 7.2 and 7.0.
_FORBIDDEN = re.compile(
    r"-?(?:NOPERM|(?:ERR )?ACL failure in script|(?:ERR )?The user executing the script can't)"
)
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,32}:\{\d{1,9}\}:\S{1,200}")
_MOST_KEYS = 8


def refusal(error: BaseException, command: Sequence[Any] = ()) -> Refused | None:
    """What `error` says if the server will not have us or our `command`, else None.

    The text names the command and its keys, never other arguments.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, redis_errors.NoPermissionError) or (
        isinstance(error, redis_errors.ResponseError) and is_forbidden(str(error))
    ):
        return Forbidden(forbidden(str(error), command))
    if isinstance(error, redis_errors.AuthenticationError | redis_errors.AuthorizationError):
        return Refused(f"the server refuses the login: {_first_line(error)}")
    if isinstance(error, redis_errors.InvalidResponse):
        return Refused("what answers does not speak Redis' protocol; one with TLS needs rediss://")
    if str(error).startswith(("DENIED", "Redis is running in protected mode")):
        return Refused(f"the server refuses connections: {_first_line(error)}")
    for each in _chain(error):
        if isinstance(each, ssl.SSLError) and _TLS_REASONS.search(_reason(each)):
            return Refused(f"no trusted connection to the server: {_tls_text(each)}")
    return None


def is_forbidden(text: str) -> bool:
    """Whether these words of the server are about a permission, in a script too."""
    return _FORBIDDEN.match(text) is not None


def forbidden(text: str, command: Sequence[Any] = ()) -> str:
    """The server's words, with the command and the keys that it was about."""
    text = " ".join(text.removeprefix("NOPERM ").split())[:300]
    if not command:
        return f"the server forbids it: {text}"
    keys = list(dict.fromkeys(each for each in command[1:] if _is_key(each)))
    shown = " ".join(keys[:_MOST_KEYS]) + (" …" if len(keys) > _MOST_KEYS else "")
    return f"the server forbids {command[0]}{' on ' if keys else ''}{shown}: {text}"


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")[:300]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: ssl.SSLError) -> str:
    return error.reason or str(error)


def _tls_text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message or error}"
    reason = _reason(error)
    if "WRONG_VERSION" in reason:
        return "what answers does not speak TLS; one without it needs redis://"
    if reason.startswith(("TLSV", "SSLV")) and "ALERT" in reason:
        return f"it refuses ours: {reason.lower().replace('_', ' ')}"
    return reason.lower().replace("_", " ")
