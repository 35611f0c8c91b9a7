"""Tests against a real Kubernetes API server, that of $KUBECONFIG: each in a name space that it
makes and removes, whatever else the cluster does. Pods need not run in it, nor can they: images
are not there. Where no kubelet takes care of a pod, a test says what becomes of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_cluster import Namespace, kubeconfig


@pytest.fixture
async def namespace(tmp_path: Path) -> AsyncIterator[Namespace]:
    kubeconfig()
    namespace = Namespace(f"carbon-test-{uuid.uuid4().hex[:8]}", tmp_path)
    await namespace.kubectl("create", "namespace", namespace.name)
    try:
        yield namespace
    finally:
        await namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")


@pytest.fixture
async def applied(namespace: Namespace) -> Namespace:
    """The manifests for kind, in a name space of the test's own."""
    await namespace.apply(await namespace.rendered("kind"))
    return namespace
