"""`keys`, and how clients send a key."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from pathlib import Path

import pytest
from deployment import Deploy
from redis import Redis

from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app
from carbon_orchestrator.clock import GridClock


class Cli:
    """The command line in this process, in a thread: it has event loops of its own."""

    def __init__(self, url: str, config: Path) -> None:
        self._where = ["--redis", url, "--config", str(config)]

    def keys(self, *arguments: str) -> tuple[int, str, str]:
        return self.run("keys", *arguments, *self._where)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                status = told(app, list(arguments))
            except SystemExit as end:
                status = int(end.code or 0)
        return status, out.getvalue(), error.getvalue()


async def test_a_key_is_made_used_listed_and_revoked(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_OPERATOR", "ada")
    monkeypatch.delenv("CARBON_API_KEY", raising=False)
    house = deploy(default_types=True)
    (tmp_path / "c.toml").write_text(f'namespace = "{house.config.namespace}"\n')
    cli = Cli(house.url, tmp_path / "c.toml")
    scopes = ["--scope", "submit", "--scope", "read"]

    def use() -> None:
        status, out, error = cli.keys("create", "ci", *scopes, "--project", "p", "--expires", "90d")
        assert status == 0, error
        key = out.strip()
        assert len(out.splitlines()) == 1, "the key stands alone"
        assert key not in error
        key_id = key.split("_")[1]
        status, out, _ = cli.keys("list", "--json")
        (listed,) = json.loads(out)
        assert {name: listed[name] for name in ("id", "name", "scopes", "project", "state")} == {
            "id": key_id,
            "name": "ci",
            "scopes": ["submit", "read"],
            "project": "p",
            "state": "ok",
        }
        assert listed["expires"] > listed["created"]
        assert key.split("_", 2)[2] not in out
        _, table, _ = cli.keys("list")
        assert all(word in table for word in (key_id, "submit, read", "p", "ok"))
        used(key)
        assert cli.keys("revoke", key_id)[0] == 0
        assert json.loads(cli.keys("list", "--json")[1])[0]["state"] == "revoked"
        assert cli.keys("revoke", "0" * 10)[0] == 1
        status, _, error = cli.keys("revoke", key)
        assert (status, len(error.splitlines())) == (2, 1)

    def used(key: str) -> None:
        client = ("--url", house.base)
        deadline = time.monotonic() + 5
        while cli.run("jobs", *client, "--api-key-file", file(key))[0]:
            assert time.monotonic() < deadline, "the gateway does not get to know the key"
            time.sleep(0.05)
        status, out, error = cli.run(
            "submit", "analytics", *client, "--api-key-file", file(key), "--json"
        )
        assert status == 0, error
        monkeypatch.setenv("CARBON_API_KEY", key)
        status, out, _ = cli.run("jobs", *client, "--json")
        assert [each["project"] for each in json.loads(out)["jobs"]] == ["p"]
        monkeypatch.delenv("CARBON_API_KEY")
        status, _, error = cli.run("jobs", *client)
        assert status == 1
        assert "CARBON_API_KEY" in error
        status, _, error = cli.run("jobs", *client, "--api-key-file", file(""))
        assert (status, len(error.splitlines())) == (2, 1)

    def file(text: str) -> str:
        (tmp_path / "key").write_text(text + "\n")
        return str(tmp_path / "key")

    await house.gateway(require_keys=True)
    await asyncio.to_thread(use)
    acts = await house.events(house.topology.operations)
    assert [(each.who, each.action) for each in acts if hasattr(each, "who")] == [
        ("ada", "key.create"),
        ("ada", "key.revoke"),
    ]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["keys", "create", "a b", "--scope", "read"], "NAME"),
        (["keys", "create", "a", "--scope", "read", "--project", "a b"], "--project"),
        (["keys", "create", "a", "--scope", "read", "--expires", "soon"], "--expires"),
        (["keys", "create", "a", "--scope", "read", "--expires", "0s"], "--expires"),
        (["gateway", "--insecure", "--require-keys"], "one of them"),
        (["gateway", "--named", "localhost"], "--insecure"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments: list[str], word: str) -> None:
    status, out, error = Cli("redis://127.0.0.1:1", Path("/nowhere")).run(*arguments)
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert word in error


def test_an_address_that_others_can_reach_is_refused_with_the_remedy(server_url: str) -> None:
    with Redis.from_url(server_url) as redis:
        redis.hset("carbon:{0}:clock", mapping=GridClock().fields())  # else it is waited for
    run = Cli(server_url, Path("/nowhere")).run
    status, _, error = run("gateway", "--host", "0.0.0.0", "--port", "0", "--redis", server_url)
    last = error.splitlines()[-1]
    assert status == 2
    assert "keys create" in last
    assert "--insecure" in last


def test_the_contract_is_printed_and_written(tmp_path: Path) -> None:
    run = Cli("", tmp_path).run
    status, out, _ = run("contract")
    assert status == 0
    assert run("contract", "--write", str(tmp_path / "openapi.json"))[0] == 0
    assert (tmp_path / "openapi.json").read_text() == out
    assert json.loads(out)["paths"]["/jobs"]["post"]["operationId"] == "submit_job"
    assert run("contract", "--write", str(tmp_path / "no" / "such"))[0] == 2
