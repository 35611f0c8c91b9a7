"""Who may talk to whom: what is needed and nothing else, by the network policies as Kubernetes
reads them. The needs are derived from what the roles are told to do, not from the policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from manifests import (
    BASE,
    OVERLAYS,
    Object,
    container,
    environment,
    labels,
    matches,
    name_of,
    named,
    of_kind,
    pod,
    roles,
    workloads,
)

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


class Peer(msgspec.Struct, frozen=True):
    """One end of a connection: a pod, or, with an address alone, whatever is outside."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = {}
    address: str = ""


class Flow(msgspec.Struct, frozen=True):
    source: Peer
    target: Peer
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source.name} -> {self.target.name}:{self.port}/{self.protocol}"


NAMES = Peer("DNS", "kube-system", {"k8s-app": "kube-dns"})
API_SERVER = Peer("API server", address="172.20.0.1")
INTERNET = Peer("internet", address="203.0.113.5")
METADATA = Peer("the cloud's metadata", address="169.254.169.254")
OUTSIDE_SERVER = Peer("server outside", address="10.1.2.3")
INGRESS = Peer("ingress", "ingress-nginx")
KEDA = Peer("KEDA", "keda")
ANOTHER = Peer("another team's pod", "somewhere")
OTHERS = (NAMES, API_SERVER, INTERNET, METADATA, OUTSIDE_SERVER, INGRESS, KEDA, ANOTHER)


def pods(overlay: str) -> dict[str, Peer]:
    return {
        name: Peer(name, each["metadata"]["namespace"], labels(each))
        for name, each in workloads(overlay).items()
    }


def needed(overlay: str) -> Iterator[Flow]:
    """What has to be let through."""
    there, ours = pods(overlay), roles(overlay)
    for each in there.values():
        yield Flow(each, NAMES, 53, "UDP")
        yield Flow(each, NAMES, 53, "TCP")
    for name, role in ours.items():
        server = urlsplit(environment(role)["CARBON_REDIS_URL"])
        services = [
            each for each in of_kind(overlay, "Service") if name_of(each) == server.hostname
        ]
        if services:
            (workload,) = served_by(overlay, services[0])
            yield Flow(there[name], there[workload], port_of(overlay, services[0], server.port))
        else:
            assert server.port is not None
            yield Flow(there[name], OUTSIDE_SERVER, server.port)
        if pod(role)["automountServiceAccountToken"]:
            # The API server has no labels, and an address that is not known beforehand.
            yield from (Flow(there[name], each, port) for each in OTHERS for port in (443, 6443))
    yield Flow(there["signal"], INTERNET, 443)  # where the grid's APIs are
    clients = [INGRESS] if of_kind(overlay, "Ingress") else [e for e in OTHERS if e.namespace]
    port = port_of(overlay, named(overlay, "Service", "gateway"), 8000)
    yield from (Flow(each, there["gateway"], port) for each in clients)
    for scaled in of_kind(overlay, "ScaledObject"):
        url = urlsplit(scaled["spec"]["triggers"][0]["metadata"]["url"])
        service, namespace, _ = str(url.hostname).split(".")
        assert namespace == there["gateway"].namespace
        target = named(overlay, "Service", service)
        (workload,) = served_by(overlay, target)
        yield Flow(KEDA, there[workload], port_of(overlay, target, url.port))


def served_by(overlay: str, service: Object) -> list[str]:
    selector = {"matchLabels": service["spec"]["selector"]}
    return [name for name, each in workloads(overlay).items() if matches(selector, labels(each))]


def port_of(overlay: str, service: Object, port: int | None) -> int:
    """The pod's port behind a Service's."""
    (found,) = (each for each in service["spec"]["ports"] if each["port"] == port)
    (workload,) = served_by(overlay, service)
    ports = container(workloads(overlay)[workload])["ports"]
    (number,) = (each["containerPort"] for each in ports if each["name"] == found["targetPort"])
    return int(number)


def let_through(overlay: str, flow: Flow) -> bool:
    return all(
        permitted(overlay, direction, end, other, flow)
        for direction, end, other in (
            ("Egress", flow.source, flow.target),
            ("Ingress", flow.target, flow.source),
        )
    )


def permitted(overlay: str, direction: str, end: Peer, other: Peer, flow: Flow) -> bool:
    """Whether the policies of one end let it through; those of others' namespaces are open."""
    policies = [
        each
        for each in of_kind(overlay, "NetworkPolicy")
        if end.namespace == each["metadata"]["namespace"]
        and direction in each["spec"]["policyTypes"]
        and matches(each["spec"]["podSelector"], end.labels)
    ]
    if not policies:
        return True
    key, ends = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        (ends not in rule or any(is_peer(each, other, end.namespace) for each in rule[ends]))
        and any(
            port["port"] == flow.port and port.get("protocol", "TCP") == flow.protocol
            for port in rule["ports"]
        )
        for each in policies
        for rule in each["spec"].get(key, [])
    )


def is_peer(rule: Mapping[str, Any], other: Peer, namespace: str) -> bool:
    if "ipBlock" in rule:
        block = rule["ipBlock"]
        if not other.address:
            return False
        address = ip_address(other.address)
        without = map(ip_network, block.get("except", []))
        return address in ip_network(block["cidr"]) and not any(address in each for each in without)
    if other.address:
        return False
    if "namespaceSelector" in rule:
        at_home = {"kubernetes.io/metadata.name": other.namespace}
        if not matches(rule["namespaceSelector"], at_home):
            return False
    elif other.namespace != namespace:
        return False
    return matches(rule.get("podSelector", {}), other.labels)


@every_overlay
def test_what_is_needed_is_let_through(overlay: str) -> None:
    refused = [str(flow) for flow in needed(overlay) if not let_through(overlay, flow)]
    assert refused == []


@every_overlay
def test_nothing_else_is_let_through(overlay: str) -> None:
    wanted, there = set(map(str, needed(overlay))), list(pods(overlay).values())
    ports = sorted({each.port for each in needed(overlay)} | {8081, 22, 80})
    found = {
        str(flow)
        for source, target in product([*there, *OTHERS], repeat=2)
        if source != target and (source in there or target in there)
        for port, protocol in product(ports, ("TCP", "UDP"))
        if let_through(overlay, flow := Flow(source, target, port, protocol))
    }
    assert found - wanted == set()


def test_the_needs_are_found() -> None:
    """Or the others would prove nothing."""
    found = set(map(str, needed(BASE)))
    assert {
        "router -> redis:6379/TCP",
        "worker-eco -> redis:6379/TCP",
        "redis -> DNS:53/UDP",
        "scaler -> API server:6443/TCP",
        "signal -> internet:443/TCP",
        "another team's pod -> gateway:8000/TCP",
    } <= found
    assert not any(each.startswith("router -> internet") for each in found)
    assert "KEDA -> gateway:8000/TCP" in set(map(str, needed("overlays/keda")))
    assert "router -> server outside:6379/TCP" in set(map(str, needed("overlays/production")))
