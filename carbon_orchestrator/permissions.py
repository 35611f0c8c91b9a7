"""Who may do what on the stream server: one user a role, each with the least that it needs.

Beside topology.py: the keys are named as there ("*" matches anything). What a script does is
checked command by command, as if its caller had sent it; calling it only needs its keys.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping

import msgspec

from carbon_orchestrator.topology import PERMANENT

#: What a role may do with keys: the access to them, and the commands.
ABILITIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "read": (
        "R",
        (
            *("exists", "get", "hexists", "hget", "hgetall", "hlen", "hmget", "hscan", "type"),
            *("zcard", "zcount", "zrange", "zrangebyscore", "zscan", "zscore", "zmscore"),
            *("xlen", "xrange", "xread", "xrevrange", "xpending"),
            *("xinfo|consumers", "xinfo|groups", "xinfo|stream"),
        ),
    ),
    "append": ("W", ("xadd", "xlen")),
    "change": (
        "RW",
        (
            *("del", "exists", "expire", "get", "pexpire", "set"),
            *("hdel", "hget", "hincrby", "hmget", "hset"),
            *("zadd", "zrem", "zremrangebyscore"),
        ),
    ),
    "consume": (
        "RW",
        (
            *("xack", "xautoclaim", "xclaim", "xpending", "xrange", "xreadgroup"),
            *("xgroup|create", "xgroup|delconsumer", "xinfo|consumers", "xinfo|groups"),
        ),
    ),
    "trim": ("RW", ("xdel", "xtrim")),
}
#: Every user's: nothing of these touches a key.
_CONNECTION = ("ping", "time", "select", "client|setinfo", "client|setname", "cluster|slots")
_TRANSACTIONS = ("multi", "exec", "discard", "wait")
#: CONFIG GET is not among them: it would tell passwords of the server.
_EXAMINE = ("info", "acl|whoami")

_COMMITS = ("receipt:*",)
_RECORDS = ("job:*", "jobs.in:*", "wake", "running.interruptible")
_SUBMISSIONS = ("jobs", "jobs.urgent")
_SECRET = ("api-keys",)
_TOLD = ("progress:*", "output:*")
_EVERYTHING = (*(name for name in PERMANENT if name not in _SECRET), "job:*")
_STREAMS = (
    *(*_SUBMISSIONS, "intensity", "dispatch.*", "completions", "emissions"),
    *("deferrals", "reviews", "operations", "scaling", "seals", "dead-letters"),
)


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """Keys by ability, and commands that are about no key. `scripts`: whether it runs any."""

    read: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    consume: tuple[str, ...] = ()
    trim: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    scripts: bool = True

    def keys(self, ability: str) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, ability)
        return found

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Whatever it touches, each once."""
        return tuple(dict.fromkeys(key for ability in ABILITIES for key in self.keys(ability)))


ROLES: dict[str, Role] = {
    "gateway": Role(
        read=(*_EVERYTHING, *_SECRET, *_TOLD),
        append=(*_SUBMISSIONS, "operations", "dispatch.*"),  # the last: dead letters, retried
        change=(*_COMMITS, "job:*", "jobs.in:*", "held:*", "clock"),
        trim=("dead-letters",),
    ),
    "signal": Role(
        read=("clock", "signal", "intensity", "jobs.in:*"),
        append=("intensity", "operations"),
        change=(*_COMMITS, "clock", "signal"),
    ),
    "router": Role(
        read=(
            *("booked:*", "clock", "completions", "durations:*", "intensity", "signal"),
            *("workers:*", *_RECORDS),
        ),
        append=("dispatch.*", "deferrals", "reviews", "operations", "dead-letters"),
        change=(*_COMMITS, *_RECORDS, "booked:*", "clock"),
        consume=(*_SUBMISSIONS, "intensity"),
    ),
    "worker": Role(
        read=("clock", "intensity", "signal", "output:*", *_RECORDS),
        append=("completions", "emissions", "operations", "dead-letters", "output:*"),
        change=(*_COMMITS, *_RECORDS, *_TOLD, "booked:*", "workers:*"),
        consume=("dispatch.*",),
        trim=("output:*",),
    ),
    "accounting": Role(
        read=_EVERYTHING,
        append=("emissions", "operations", "seals", "dead-letters"),
        change=(
            *(*_COMMITS, "totals:*", "days", "durations:*", "settled", "unsettled"),
            *("chain", "archived", "booked:*", "workers:*", "jobs.in:*"),
        ),
        consume=("completions", "emissions"),
        trim=_STREAMS,
    ),
    "scaler": Role(
        read=("clock", "dispatch.*", "intensity", "job:*", "scaler:*", "wake", "workers:*"),
        append=("operations", "scaling"),
        change=(*_COMMITS, "clock", "scaler:*"),
    ),
    "operator": Role(
        read=(*_EVERYTHING, *_SECRET),
        append=_STREAMS,
        change=(*_COMMITS, *_SECRET, "held:*", "signal"),
        trim=("dead-letters",),
        server=_EXAMINE,
    ),
    # `audit`, `replay`, `doctor` and whoever else only looks.
    "reader": Role(read=_EVERYTHING, server=("scan", *_EXAMINE), scripts=False),
    # Other services that publish jobs without the gateway.
    "publisher": Role(append=_SUBMISSIONS, scripts=False),
}


def _together(*roles: Role) -> Role:
    def all_of(field: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each for role in roles for each in getattr(role, field)))

    return Role(
        read=all_of("read"),
        append=all_of("append"),
        change=all_of("change"),
        consume=all_of("consume"),
        trim=all_of("trim"),
        server=all_of("server"),
    )


#: `up` with a server of yours: all that serve, in one process.
ROLES["up"] = _together(
    *(
        ROLES[name]
        for name in ("gateway", "signal", "router", "worker", "accounting", "scaler", "operator")
    )
)


def rules(namespace: str, role: Role) -> str:
    """ACL rules, without a password, for the keys of every partition."""
    commands = [*_CONNECTION, *(_TRANSACTIONS if role.change or role.read else ()), *role.server]
    selectors = [
        _selector(namespace, access, names, role.keys(ability))
        for ability, (access, names) in ABILITIES.items()
        if role.keys(ability)
    ]
    if role.scripts:
        # Alone it lets nobody at the keys: each command of a script needs a selector of its own.
        selectors.append(_selector(namespace, "RW", ("eval", "evalsha"), role.all_keys))
    return " ".join(
        ["resetkeys resetchannels -@all", *(f"+{each}" for each in commands), *selectors]
    )


def _selector(namespace: str, access: str, commands: tuple[str, ...], keys: tuple[str, ...]) -> str:
    allowed = " ".join(f"+{each}" for each in commands)
    patterns = " ".join(f"%{access}~{namespace}:{{*}}:{name}" for name in keys)
    return f"({allowed} {patterns})"


def user(namespace: str, role: str) -> str:
    """The user's name of a role."""
    return f"{namespace}-{role}"


def acl(namespace: str, passwords: Mapping[str, str]) -> Iterator[str]:
    """Lines of an ACL file for all roles. A role without a password is off: it cannot log in.

    The default user is off; the one who may do anything is NAMESPACE-admin.
    """
    yield "user default off resetkeys resetchannels -@all"
    for role in ("admin", *ROLES):
        granted = "~* &* +@all" if role == "admin" else rules(namespace, ROLES[role])
        login = "off"
        if password := passwords.get(role):
            login = f"on #{hashlib.sha256(password.encode()).hexdigest()}"
        yield f"user {user(namespace, role)} {login} {granted}"


def new_passwords() -> dict[str, str]:
    """A random one for every role: 256 bits, letters and digits."""
    return {role: secrets.token_hex(32) for role in ("admin", *ROLES)}
