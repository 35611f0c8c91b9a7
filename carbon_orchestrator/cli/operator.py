"""Commands of those who operate a deployment: `dead-letters`, `operations`, `doctor`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import DONE, NOT_WELL, UNREACHABLE, USAGE, Failure
from carbon_orchestrator.cli.output import STATES, Column, Json
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import Data, PartitionNumber, ServerUrl, everywhere
from carbon_orchestrator.config import Config, load
from carbon_orchestrator.server_url import shown

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from carbon_orchestrator.doctor import Check
    from carbon_orchestrator.topology import Topology


def doctor(
    *,
    redis: ServerUrl = None,
    data: Data = None,
    acl: Annotated[bool, Parameter(negative="")] = False,
    passwords: Path | None = None,
    partition: PartitionNumber = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Examine the deployment, and say what to do.

    The server's settings, clocks, consumers, backlog, signal, record.

    The status is 0 if nothing failed, 1 if a check failed, 3 if the server cannot be reached.

    Parameters
    ----------
    acl
        Instead, print an ACL file for the server: a user for each role, with no more rights than
        it needs. Without --passwords all of them are switched off.
    passwords
        With --acl: the file with the password of each user, whose hashes go into the ACL file.
        Passwords that are in it stay; those that are not are made and added.
    """
    from carbon_orchestrator.doctor import Check, examine, gather
    from carbon_orchestrator.record_health import record_checks

    if passwords is not None and not acl:
        raise Failure("--passwords goes with --acl", USAGE)
    if acl:
        _acl_file(load(config), passwords)
        return DONE

    url, loaded = redis_url(redis, data), load(config)

    async def use(client: Redis, names: Topology) -> list[Check]:
        found = examine(await gather(client, names, loaded))
        found += await record_checks(client, names, loaded)
        number = names.partition.number
        return found if not number else [each.of_partition(number) for each in found]

    try:
        examined = run_async(lambda: everywhere(url, loaded, use, partition))
        checks = [check for each in examined for check in each]
    except Failure as failure:
        if json and failure.status == UNREACHABLE:
            output.write_json([{"name": "reachable", "status": "fail", "detail": str(failure)}])
        raise
    checks.insert(0, Check("reachable", "ok", shown(url)))
    failed = any(check.status == "fail" for check in checks)
    if json:
        output.write_json([msgspec.to_builtins(check) for check in checks])
    else:
        output.table(CHECK_COLUMNS, [_check_row(check) for check in checks])
    return NOT_WELL if failed else DONE


def _acl_file(config: Config, passwords: Path | None) -> None:
    from carbon_orchestrator.permissions import acl

    made = {} if passwords is None else _passwords(passwords, config.namespace)
    for line in acl(config.namespace, made):
        output.write(line)
    hint = (
        f"the passwords are in {passwords}: give each role its own as $CARBON_REDIS_USERNAME and"
        " $CARBON_REDIS_PASSWORD"
        if passwords is not None
        else "all users are off: give them passwords with --passwords FILE, or in the file"
    )
    output.hint(f"for `aclfile` in the server's configuration, then ACL LOAD; {hint}")


def _passwords(path: Path, namespace: str) -> dict[str, str]:
    """By role: those in the file, lines of USER PASSWORD, and new ones, which are added to it."""
    from carbon_orchestrator.permissions import new_passwords, user

    found: dict[str, str] = {}
    made = new_passwords()
    roles = {user(namespace, role): role for role in made}
    try:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+") as file:
            file.seek(0)
            text = file.read()
            for number, line in enumerate(text.splitlines(), 1):
                match line.split():
                    case [name, password] if name in roles:
                        found[roles[name]] = password
                    case _:
                        raise Failure(
                            f"{path}: line {number} is no user of ours and a password", USAGE
                        )
            missing = [f"{name} {made[role]}" for name, role in roles.items() if role not in found]
            if missing and text and not text.endswith("\n"):
                file.write("\n")
            file.writelines(f"{line}\n" for line in missing)
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {getattr(error, 'strerror', error)}", USAGE) from None
    return {**made, **found}


CHECK_COLUMNS = (
    Column("status", styles=STATES),
    Column("check"),
    Column("result", flexible="wraps"),
)


def _check_row(check: Check) -> list[str]:
    remedy = f"\n→ {check.remedy}" if check.remedy else ""
    return [check.status, check.name, check.detail + remedy]
