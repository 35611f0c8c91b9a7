"""The stream server's URL: completed from the environment, and shown without its secrets.

`redis://` or `rediss://` (TLS), with `[user:password@]host[:port][/db]`; for a Redis Cluster
`redis+cluster://` or `rediss+cluster://`, with any of its nodes as `host:port,host:port`. Of a
query the options in `OPTIONS` are understood. What the URL does not say is taken from the
environment:

    CARBON_REDIS_USERNAME, CARBON_REDIS_PASSWORD   who we are
    CARBON_REDIS_CA                                file of the certificates that sign the server's
    CARBON_REDIS_CERT, CARBON_REDIS_KEY            files of our own certificate and its key
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from carbon_orchestrator.config import ConfigError
from streams import cluster

OPTIONS = frozenset(
    {
        "db",
        "username",
        "password",
        "ssl_ca_certs",  # a file
        "ssl_ca_path",  # a directory
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_password",  # of the key
        "ssl_cert_reqs",  # "none": do not check the server's certificate
        "ssl_check_hostname",  # "false": whatever name its certificate has
        "ssl_min_version",
        "ssl_ciphers",
    }
)
_FILES = {
    "ssl_ca_certs": "CARBON_REDIS_CA",
    "ssl_certfile": "CARBON_REDIS_CERT",
    "ssl_keyfile": "CARBON_REDIS_KEY",
}
#: Of the environment, what says who we are.
LOGIN = ("CARBON_REDIS_USERNAME", "CARBON_REDIS_PASSWORD")
_LOOPBACK = ("localhost", "::1")


def completed(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """`url` with what the environment adds to it. ConfigError, which quotes nothing of it."""
    parts = _parts(url)
    query = dict(parse_qsl(parts.query))
    unknown = sorted(set(query) - OPTIONS)
    if unknown:
        raise ConfigError(
            f"the stream server's URL has an option that is not known, {unknown[0]!r};"
            f" known are {', '.join(sorted(OPTIONS))}"
        )
    if parts.scheme.startswith("rediss"):
        for option, variable in _FILES.items():
            if option not in query and environment.get(variable):
                query[option] = environment[variable]
            _readable(query.get(option), variable)
    login = _login(parts, query, environment)
    # urlunsplit would leave out the slashes of unix:///path.
    options = f"?{urlencode(query)}" if query else ""
    return f"{parts.scheme}://{login}{parts.path}{options}"


def _parts(url: str) -> SplitResult:
    wrong = (
        "the stream server's URL is not understood; write it like redis://127.0.0.1:6379/0, or for"
        " a cluster like redis+cluster://node-1:6379,node-2:6379"
    )
    try:
        each = [urlsplit(node) for node in _nodes(url)]
        found = all(one.port is not None or one.hostname or one.path for one in each)
    except ValueError:  # its text would quote a part of the password
        raise ConfigError(f"{wrong} (characters such as / # ? in a password as %2F)") from None
    if not all(one.scheme in ("redis", "rediss", "unix") for one in each) or not found:
        raise ConfigError(wrong)
    parts = urlsplit(url)
    if parts.scheme in cluster.SCHEMES and parts.path not in ("", "/", "/0"):
        raise ConfigError("a cluster has database 0 only: leave out what follows its hosts")
    return parts


def _nodes(url: str) -> list[str]:
    """The URL of each server that it names."""
    return cluster.nodes(url) or [url]


def _login(parts: SplitResult, query: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Who we are, where the URL leaves it open, and the rest of the net location."""
    password = environment.get("CARBON_REDIS_PASSWORD")
    if not password or parts.password is not None or "password" in query:
        return parts.netloc
    user = parts.username
    if user is None:
        user = quote(environment.get("CARBON_REDIS_USERNAME", ""), safe="")
    return f"{user}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"


def _readable(path: str | None, variable: str) -> None:
    if path is None:
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror} (${variable} or the URL names it)") from None


def shown(url: str) -> str:
    """The URL without login and options, which may hold secrets."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the stream server"
    if parts.scheme not in ("redis", "rediss", "unix", *cluster.SCHEMES):
        return "the stream server"
    try:
        for each in _nodes(url):
            _ = urlsplit(each).port
    except ValueError:  # "redis://user:pa/ss@host": what looks like a port is of the password
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{host}{parts.path}"


def without_login(url: str) -> str:
    """A completed URL, as one who has no login would use it."""
    parts = urlsplit(url)
    kept = {k: v for k, v in parse_qsl(parts.query) if k not in ("username", "password")}
    options = f"?{urlencode(kept)}" if kept else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{options}"


def same_server(url: str, other: str) -> bool:
    """Whether both name the same server, or a node of the same cluster, by the same name."""
    try:
        return not _places(url).isdisjoint(_places(other))
    except ValueError:
        return False


def _places(url: str) -> set[tuple[str | None, int, str]]:
    """Where the servers are that it names. ValueError."""
    return {
        (parts.hostname, parts.port or 6379, parts.path if parts.scheme == "unix" else "")
        for parts in map(urlsplit, _nodes(url))
    }


def is_loopback(url: str) -> bool:
    """Whether the server, or the cluster, is on this machine."""
    for parts in map(urlsplit, _nodes(url)):
        host = parts.hostname or ""
        if not (parts.scheme == "unix" or host in _LOOPBACK or host.startswith("127.")):
            return False
    return True
