"""The scaler on Kubernetes, against an API server that checks each request strictly."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_server import APPS, LEASES, ApiServer
from deployment import LOW, Deploy
from test_scaler import QUICK, changes, scaler

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.kubernetes.cluster import Access, Cluster, ClusterError
from carbon_orchestrator.scaler.actuator import ActuatorError, Contended
from carbon_orchestrator.scaler.kubernetes import Deployments
from carbon_orchestrator.scaler.leadership import DURATION, Leadership
from streams.testing import until


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    api = ApiServer(tmp_path / "token")
    await api.start(None)
    yield api
    await api.stop()
    assert api.faults == []


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Candidates:
    """Scalers of one cluster; all of them see the same time pass."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.clock = api, Clock()
        self.made: list[Cluster] = []

    def cluster(self) -> Cluster:
        self.made.append(Cluster(Access(self.api.url, "jobs", self.api.token_file)))
        return self.made[-1]

    def leadership(self, name: str, lease: str = "scaler") -> Leadership:
        return Leadership(self.cluster(), lease, name, clock=self.clock)

    def deployments(self, name: str = "one") -> Deployments:
        cluster = self.cluster()
        leadership = Leadership(cluster, "scaler", name, clock=self.clock)
        return Deployments(cluster, leadership, {"fast": "worker-fast", "eco": "worker-eco"})


@pytest.fixture
async def candidates(api: ApiServer) -> AsyncIterator[Candidates]:
    candidates = Candidates(api)
    yield candidates
    for each in candidates.made:
        await each.aclose()


# -- sizes ---------------------------------------------------------------------------------------


async def test_a_size_is_read_and_patched(api: ApiServer, candidates: Candidates) -> None:
    pods = candidates.deployments()
    assert [await pods.size("fast"), await pods.size("eco")] == [0, 1]
    await pods.scale("fast", 0, 3, frozenset(), "")
    await pods.scale("eco", 1, 0, frozenset(), "")
    assert api.sizes == {"worker-fast": 3, "worker-eco": 0}
    assert await pods.size("eco") == 0


async def test_a_deployment_that_changes_otherwise_is_patched_all_the_same(
    api: ApiServer, candidates: Candidates
) -> None:
    left = 3

    def meanwhile(method: str, path: str) -> None:
        nonlocal left
        if method == "PATCH" and left:
            left -= 1
            api.changed()

    api.meanwhile = meanwhile
    await candidates.deployments().scale("fast", 0, 2, frozenset(), "")
    assert (api.sizes["worker-fast"], left) == (2, 0)
    left = 1000
    with pytest.raises(ActuatorError, match="changed all the time"):
        await candidates.deployments().scale("fast", 2, 4, frozenset(), "")


async def test_another_that_scales_at_the_same_time_is_noticed_and_not_overruled(
    api: ApiServer, candidates: Candidates
) -> None:
    def meanwhile(method: str, path: str) -> None:
        if method == "PATCH" and api.sizes["worker-fast"] == 0:
            api.sizes["worker-fast"] = 7
            api.changed()

    api.meanwhile = meanwhile
    with pytest.raises(Contended, match="has been set to 7 by somebody else"):
        await candidates.deployments().scale("fast", 0, 2, frozenset(), "")
    assert api.sizes["worker-fast"] == 7


async def test_a_token_that_was_replaced_is_read_anew(
    api: ApiServer, candidates: Candidates
) -> None:
    pods = candidates.deployments()
    assert await pods.size("eco") == 1
    api.token = "second-token"
    with pytest.raises(ActuatorError, match="does not accept our token") as refused:
        await pods.size("eco")
    assert "first-token" not in str(refused.value)
    api.token_file.write_text("second-token\n")
    assert await pods.size("eco") == 1
    api.token_file.unlink()
    with pytest.raises(ActuatorError, match="No such file"):
        await pods.size("eco")


async def test_what_the_role_does_not_allow_is_named(
    api: ApiServer, candidates: Candidates
) -> None:
    api.allowed.discard(("PATCH", f"{APPS}/worker-fast/scale"))
    with pytest.raises(ActuatorError, match=f"Role does not allow PATCH {APPS}/worker-fast/scale"):
        await candidates.deployments().scale("fast", 0, 1, frozenset(), "")


async def test_an_api_server_that_cannot_be_reached(tmp_path: Path) -> None:
    cluster = Cluster(Access("http://127.0.0.1:1", "jobs"))
    with pytest.raises(ClusterError, match="cannot be reached"):
        await cluster.request("GET", "/")
    await cluster.aclose()


# -- leadership ----------------------------------------------------------------------------------


async def test_one_leads_until_it_is_silent_for_the_whole_duration(
    api: ApiServer, candidates: Candidates
) -> None:
    one, two, clock = candidates.leadership("one"), candidates.leadership("two"), candidates.clock
    assert await one.held()
    assert not await two.held()
    for _ in range(4):
        clock.seconds += DURATION / 2
        assert await one.held()
        assert not await two.held()
    clock.seconds += DURATION - 0.1
    assert not await two.held()
    clock.seconds += 0.1
    assert await two.held()
    assert not await one.held(), "it woke up too late"
    lease = api.leases["scaler"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("two", 2)


async def test_who_leaves_lets_another_lead_at_once(api: ApiServer, candidates: Candidates) -> None:
    one, two = candidates.leadership("one"), candidates.leadership("two")
    assert await one.held()
    assert not await two.held()
    await two.release()  # it is not its to give
    assert api.leases["scaler"]["holderIdentity"] == "one"
    await one.release()
    assert await two.held()


async def test_of_two_who_try_at_once_one_wins(api: ApiServer, candidates: Candidates) -> None:
    one, two = candidates.leadership("one"), candidates.leadership("two")
    answers: list[bool] = []

    def meanwhile(method: str, path: str) -> None:
        if method == "PUT" and not answers:
            answers.append(True)
            api.leases["scaler"] = {
                "holderIdentity": "three",
                "leaseDurationSeconds": 15,
                "renewTime": "2026-01-01T00:00:00.000000Z",
                "acquireTime": "2026-01-01T00:00:00.000000Z",
                "leaseTransitions": 1,
            }
            api.changed()

    api.meanwhile = meanwhile
    assert not await one.held()
    assert not await two.held()
    assert api.leases["scaler"]["holderIdentity"] == "three"


async def test_a_leader_that_cannot_renew_stops_before_another_begins(
    api: ApiServer, candidates: Candidates
) -> None:
    one, clock = candidates.leadership("one"), candidates.clock
    assert await one.held()
    api.allowed.clear()
    clock.seconds += 9
    assert await one.held()
    clock.seconds += 2
    with pytest.raises(ClusterError, match=f"Role does not allow GET {LEASES}/scaler"):
        await one.held()
    assert clock.seconds < DURATION


async def test_renewals_are_not_more_frequent_than_needed(
    api: ApiServer, candidates: Candidates
) -> None:
    one = candidates.leadership("one")
    for _ in range(100):
        candidates.clock.seconds += 0.1
        assert await one.held()
    assert len(api.requests) <= 6


async def test_a_missing_lease_is_named(api: ApiServer, candidates: Candidates) -> None:
    api.allowed.add(("GET", f"{LEASES}/other"))
    with pytest.raises(ClusterError, match=f"there is no {LEASES}/other"):
        await candidates.leadership("one", "other").held()


# -- as a whole ----------------------------------------------------------------------------------


async def test_deployments_follow_the_backlog_and_one_scaler_leads(
    api: ApiServer, candidates: Candidates, deploy: Deploy
) -> None:
    house = deploy(scaler=QUICK)
    await house.intensity(LOW)
    await house.gateway()
    house.router()
    await house.routing()
    first = scaler(house, candidates.deployments("one"))
    await until(lambda: api.leases["scaler"].get("holderIdentity") == "one")
    scaler(house, candidates.deployments("two"))
    jobs = [await house.post("hold") for _ in range(9)]
    await until(lambda: api.sizes["worker-fast"] == 3)
    await until(lambda: api.sizes["worker-eco"] == 0)
    await first.stop()
    assert api.leases["scaler"]["holderIdentity"] in ("", "two")
    await until(lambda: api.leases["scaler"]["holderIdentity"] == "two")
    house.worker("fast", slots=9)
    house.release()
    for each in jobs:
        await house.reach(each, "completed")
    await until(lambda: api.sizes["worker-fast"] == 0)
    assert len({each.scaler for each in await changes(house)}) == 2


async def test_certificates_are_checked(tmp_path: Path, api: ApiServer) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl program, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=api"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    server = ApiServer(tmp_path / "token")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    await server.start(tls)
    trusting = Cluster(Access(server.url, "jobs", server.token_file, certificate))
    doubting = Cluster(Access(server.url, "jobs", server.token_file))
    try:
        scale = await trusting.request("GET", f"{APPS}/worker-eco/scale")
        assert scale["spec"] == {"replicas": 1}
        with pytest.raises(ClusterError, match="certificate"):
            await doubting.request("GET", f"{APPS}/worker-eco/scale")
        assert len(server.requests) == 1
    finally:
        await trusting.aclose()
        await doubting.aclose()
        await server.stop()
    with pytest.raises(ConfigError, match="no usable certificates"):
        Cluster(Access(server.url, "jobs", None, key))


def test_a_pod_finds_its_api_server(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("green\n")
    inside = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = Access.find(environment=inside, account=tmp_path)
    assert found == Access(
        "https://[fd00::1]:6443", "green", tmp_path / "token", tmp_path / "ca.crt"
    )
    given = Access.find("https://api/", "jobs", environment={}, account=tmp_path)
    assert given == Access("https://api", "jobs")
    with pytest.raises(ConfigError, match="give --api-server"):
        Access.find(environment={}, account=tmp_path)
