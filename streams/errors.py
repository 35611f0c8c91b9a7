"""What can go wrong, sorted by what the caller can do about it."""

from __future__ import annotations

from redis import exceptions as redis_errors


class StreamsError(Exception):
    """Base of this package's errors."""


class DecodeError(StreamsError):
    """Bytes on a stream are no event that we know; the message says why."""


class Unprocessable(StreamsError):
    """An event that cannot be processed here, however often it is tried; the message says why."""


class CommitUnknown(StreamsError):
    """The server did not answer in time; the commit may or may not have taken effect."""


class NotReplicated(StreamsError):
    """The server has the commit, but fewer replicas than wanted have it yet."""


class CommitTooLarge(StreamsError):
    """One transaction is larger than the server may be sent at once."""


class WriteFailed(StreamsError):
    """The server refused a write of the transactions `failed` (their places in what was handed
    in); what came before that write has taken effect, as have those of the others that `held`."""

    def __init__(self, reason: str, failed: tuple[int, ...], held: tuple[bool, ...] = ()) -> None:
        super().__init__(reason)
        self.failed = failed
        self.held = held


class Refused(StreamsError):
    """The server will not have us, or cannot be trusted: a login, a certificate, a permission.
    Waiting does not help; the message says what is missing."""


class Forbidden(Refused):
    """The server knows us and forbids a command, or a key."""


#: Faults that pass by themselves: connection lost, server starting, failing over, full.
TRANSIENT = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.BusyLoadingError,
    redis_errors.ReadOnlyError,
    redis_errors.TryAgainError,
    redis_errors.ClusterDownError,
    redis_errors.OutOfMemoryError,
    ConnectionError,
    TimeoutError,
    NotReplicated,
)

#: To redis-py they are faults of the connection.
_REFUSALS = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)

_TRANSIENT_CODES = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "UNBLOCKED",
    "OOM ",
    "BUSY ",
    "MISCONF",
    "NOREPLICAS",
)


def is_transient(error: BaseException) -> bool:
    """Whether waiting and trying again is the remedy."""
    if isinstance(error, TRANSIENT):
        return not isinstance(error, _REFUSALS)
    # uvloop's word for a connection that was reset just before it was written to.
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        return True
    return isinstance(error, redis_errors.ResponseError) and str(error).startswith(_TRANSIENT_CODES)


def is_missing_group(error: BaseException) -> bool:
    """Whether the stream or its group is gone and must be made again."""
    if not isinstance(error, redis_errors.ResponseError):
        return False
    return "NOGROUP" in str(error) or str(error).startswith("UNBLOCKED")
