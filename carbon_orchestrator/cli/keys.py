"""Commands on API keys: `create`, `list`, `revoke`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import NOT_WELL, USAGE, Failure
from carbon_orchestrator.cli.output import STATES, Column, Json
from carbon_orchestrator.cli.quantities import moment
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import (
    Data,
    ServerUrl,
    everywhere,
    topology,
    with_server,
)
from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.config import load
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.gateway.door.keys import ApiKey, Scope, is_key_id
from carbon_orchestrator.operations import who
from carbon_orchestrator.submission import is_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from carbon_orchestrator.topology import Topology

keys = App(name="keys", help="API keys: who may use the gateway, and for what.")

KEY_COLUMNS = (
    Column("id"),
    Column("name"),
    Column("scopes"),
    Column("project"),
    Column("created"),
    Column("expires"),
    Column("state", styles=STATES),
)


@keys.command
def create(
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    scope: Annotated[list[Scope], Parameter(negative="")],
    project: str | None = None,
    expires: str | None = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make an API key. It is printed to standard output, alone, and shown this once: only a hash
    of it is kept.

    Parameters
    ----------
    name
        Whose it is; it stands in the record for what is done with it.
    scope
        What it may do; may be given several times. submit: submit jobs, and cancel its own;
        read: see jobs, totals, metrics; operate: read, and cancel any job; admin: everything.
    project
        The only project that it may submit to and see.
    expires
        After how long it opens nothing any more, such as 90d.
    """
    if not is_name(name):
        raise Failure("NAME is 1-64 letters, digits and _ . @ / -", USAGE)
    if project is not None and not is_name(project):
        raise Failure("--project is 1-64 letters, digits and _ . @ / -", USAGE)
    now = wall_ms()
    key = ApiKey(
        name=name,
        scopes=tuple(dict.fromkeys(scope)),
        sha256="",
        created=now,
        project=project,
        expires=None if expires is None else now + _length(expires),
    )

    async def use(client: Redis, names: Topology) -> str:
        from carbon_orchestrator.gateway.door.keyring import create_key
        from streams.commit import Committer

        committer = Committer(client, names.partition, patience=10)
        return await create_key(committer, names, who(), key)

    made: str = _on_server(redis, data, config, use)
    if json:
        output.write_json({"key": made, **_shown(made.split("_")[1], key, now)})
        return
    output.write(made)
    output.hint("keep it: it cannot be shown again. Clients send it from $CARBON_API_KEY, or")
    output.hint("in a header: Authorization: Bearer KEY. Gateways know it within a second or two.")


def _length(text: str) -> int:
    try:
        length = milliseconds(text)
    except ValueError as error:
        raise Failure(f"--expires: {error}", USAGE) from None
    if length <= 0:
        raise Failure("--expires must be above 0", USAGE)
    return length


@keys.command(name="list")
def list_(
    *,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List all API keys, the latest last."""

    async def use(client: Redis, names: Topology) -> dict[str, ApiKey]:
        from carbon_orchestrator.gateway.door.keyring import read_keys

        return await read_keys(client, names)

    found: dict[str, ApiKey] = _on_server(redis, data, config, use)
    now = wall_ms()
    ordered = sorted(found.items(), key=lambda each: (each[1].created, each[0]))
    listed = [_shown(key_id, key, now) for key_id, key in ordered]
    if json:
        output.write_json(listed)
    elif not listed:
        output.hint("no API keys; make one with: carbon-orchestrator keys create NAME --scope read")
    else:
        output.table(KEY_COLUMNS, [_row(each) for each in listed])


@keys.command
def revoke(
    key_id: Annotated[str, Parameter(name="ID")],
    /,
    *,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make an API key useless for good. Gateways refuse it within two seconds.

    Parameters
    ----------
    key_id
        Its id, as `keys list` prints it: the middle part of the key.
    """
    if not is_key_id(key_id):
        raise Failure("ID is the middle part of a key: ten characters between two _", USAGE)

    async def use(client: Redis, names: Topology) -> ApiKey | None:
        from carbon_orchestrator.gateway.door.keyring import revoke_key
        from streams.commit import Committer

        committer = Committer(client, names.partition, patience=10)
        return await revoke_key(client, committer, names, who(), key_id)

    async def forget(client: Redis, names: Topology) -> None:
        """What jobs came with it."""
        await client.delete(names.held(key_id))

    key: ApiKey | None = _on_server(redis, data, config, use)
    if key is None:
        raise Failure(f"no API key {key_id}", NOT_WELL)
    run_async(lambda: everywhere(redis_url(redis, data), load(config), forget, None))
    if json:
        output.write_json(_shown(key_id, key, wall_ms()))
    else:
        output.write(f"{key_id} ({key.name}) is revoked")


def _on_server(
    redis: str | None,
    data: Path | None,
    config: Path | None,
    use: Callable[[Redis, Topology], Awaitable[Any]],
) -> Any:
    names = topology(load(config))
    return run_async(lambda: with_server(redis_url(redis, data), lambda client: use(client, names)))


def _shown(key_id: str, key: ApiKey, now: int) -> dict[str, Any]:
    """All but the hash."""
    state = "revoked" if key.revoked is not None else "ok" if key.usable(now) else "expired"
    return {
        "id": key_id,
        "name": key.name,
        "scopes": list(key.scopes),
        "project": key.project,
        "created": rfc3339(key.created),
        "expires": None if key.expires is None else rfc3339(key.expires),
        "revoked": None if key.revoked is None else rfc3339(key.revoked),
        "state": state,
    }


def _row(shown: dict[str, Any]) -> list[str]:
    return [
        shown["id"],
        shown["name"],
        ", ".join(shown["scopes"]),
        shown["project"] or "all",
        moment(shown["created"]),
        moment(shown["expires"]) if shown["expires"] else "never",
        shown["state"],
    ]
