"""The manifests, as a real API server takes them."""

from __future__ import annotations

import pytest
from real_cluster import OVERLAYS, WORKERS, Namespace

pytestmark = pytest.mark.k8s


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_an_overlay_is_taken_and_taken_again_leaves_sizes_as_they_are(
    namespace: Namespace, overlay: str
) -> None:
    objects = await namespace.rendered(overlay)
    versions = sorted({each["apiVersion"] for each in objects})
    served = {version: await namespace.served(version) for version in versions}
    known = [each for each in objects if each["kind"] in served[each["apiVersion"]]]
    wide = [each for each in known if not served[each["apiVersion"]][each["kind"]]]
    assert [(each["kind"], each["metadata"]["name"]) for each in wide] == [
        ("Namespace", namespace.name)
    ], "nothing else is of the whole cluster"
    await namespace.apply(known)
    for each in WORKERS:
        await namespace.kubectl("scale", "deployment", each, "--replicas=7")
    assert await namespace.differences(known) == ""
    await namespace.apply(known)
    assert [await namespace.replicas(each) for each in WORKERS] == [7, 7]
    left = {f"{each['apiVersion']} {each['kind']}" for each in objects if each not in known}
    if left:
        pytest.skip(f"all but {', '.join(sorted(left))}, which this cluster does not serve")
