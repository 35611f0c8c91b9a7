"""Lua scripts, those of this package among them: sent by digest, loaded where they are new."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """A script file in the `lua` of a package; its header states KEYS, ARGV and the reply."""

    def __init__(self, name: str, package: str = "streams") -> None:
        self.text = (resources.files(package) / "lua" / f"{name}.lua").read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: list[str], arguments: list[Any]) -> Any:
        """Run it. A server that forgot the script (restart, failover) is sent it again."""
        try:
            return await redis.execute_command("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await redis.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


COMMIT = Script("commit")
TAKE = Script("take")
RENEW = Script("renew")
LEAVE = Script("leave")
GATHER = Script("gather")
ARCHIVED = Script("archived")
APPEND = Script("append")
