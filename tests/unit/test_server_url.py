"""The stream server's URL, of one server and of a cluster."""

from __future__ import annotations

import pytest

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.server_url import (
    completed,
    is_loopback,
    same_server,
    shown,
    without_login,
)

CLUSTER = "redis+cluster://ann:secret@one:7000,two:7001"
PASSWORD = {"CARBON_REDIS_USERNAME": "bob", "CARBON_REDIS_PASSWORD": "a/b"}


def test_a_login_from_the_environment_is_for_every_node() -> None:
    assert completed("redis+cluster://one:7000,two", PASSWORD) == (
        "redis+cluster://bob:a%2Fb@one:7000,two"
    )
    assert completed(CLUSTER, PASSWORD) == CLUSTER
    assert completed("redis://one", PASSWORD) == "redis://bob:a%2Fb@one"


def test_no_login_is_shown_nor_used_where_there_is_to_be_none() -> None:
    assert shown(CLUSTER) == "redis+cluster://one:7000,two:7001"
    assert without_login(CLUSTER) == "redis+cluster://one:7000,two:7001"
    assert "secret" not in shown("redis+cluster://ann:sec/ret@one:7000,two:7001")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis+cluster://", "not understood"),
        ("redis+cluster://one:7000,", "not understood"),
        ("redis+cluster://one:7000,two:x", "not understood"),
        ("redis+cluster://one/1", "database 0 only"),
        ("redis+cluster://one?retry=9", "option that is not known"),
        ("redis-cluster://one", "redis+cluster://node-1"),
    ],
)
def test_what_cannot_be_a_url_is_told_what_one_is_like(url: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace("+", r"\+")):
        completed(url, {})


def test_two_urls_are_of_one_cluster_if_they_share_a_node() -> None:
    assert same_server(CLUSTER, "rediss+cluster://two:7001,three:7002")
    assert same_server(CLUSTER, "redis://one:7000/0")
    assert not same_server(CLUSTER, "redis+cluster://one:7001")


def test_a_cluster_is_on_this_machine_if_all_its_nodes_are() -> None:
    assert is_loopback("redis+cluster://127.0.0.1:1,localhost:2")
    assert not is_loopback("redis+cluster://127.0.0.1:1,two:2")
