"""What is said of the streams is what goes over them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from carbon_orchestrator.contract import asyncapi, wire
from carbon_orchestrator.contract.wire import CHANNELS, PARAMETERS
from carbon_orchestrator.events import EVENTS
from carbon_orchestrator.topology import Topology
from streams.dead_letters import DEAD_LETTERS
from streams.keys import Partition

RECORDED = Path(__file__).parents[1] / "recorded"
STREAMS = wire.document()
DOCUMENT = asyncapi.document()


def validator(event_type: str) -> Draft202012Validator:
    return Draft202012Validator({"$defs": STREAMS["$defs"], **STREAMS["events"][event_type]})


def channel(stream: str) -> str | None:
    """The channel of a stream, by its name in the partition."""
    for each in CHANNELS:
        address = re.escape(each.address).replace(r"\{site\}", r"(?:fast|eco)(?:@\w+)?")
        if re.fullmatch(address.replace(r"\{lane\}", r"(?:\.urgent|\.due)?"), stream):
            return each.name
    return None


def test_every_stream_is_a_channel() -> None:
    partition = Partition("any")
    topology = Topology(partition, {"FR": ("eco",)})
    names = {partition.name(each) for each in topology.streams} - {DEAD_LETTERS}
    assert {channel(each) for each in names} == {each.name for each in CHANNELS}


def test_groups_are_those_of_the_topology() -> None:
    partition = Partition("any")
    for group, streams in Topology(partition).groups.items():
        for stream in streams:
            (found,) = [each for each in CHANNELS if each.name == channel(partition.name(stream))]
            assert found.group == group


def test_every_event_is_on_a_channel() -> None:
    assert {event for each in CHANNELS for event in each.events} == set(EVENTS)


def test_schemas_are_sound() -> None:
    for event in EVENTS:
        Draft202012Validator.check_schema(STREAMS["$defs"][event.__name__])
        assert validator(event.event_type) is not None


@pytest.mark.parametrize("deployment", sorted(RECORDED.glob("*/*")), ids=lambda path: path.name)
def test_recorded_events_are_as_it_is_said(deployment: Path) -> None:
    seen: set[str] = set()
    for stream, event_type, data in recorded(deployment):
        if stream == DEAD_LETTERS:
            continue
        (found,) = [each for each in CHANNELS if each.name == channel(stream)]
        assert event_type in {each.event_type for each in found.events}, stream
        validator(event_type).validate(data)
        seen.add(event_type)
    assert len(seen) >= 8, seen


def test_what_is_no_event_is_found_wrong() -> None:
    assert validator("job.submitted").is_valid({"type": "x", "newer": 1})
    for wrong in ({}, {"type": 7}, {"type": "x", "urgency": "now"}, {"type": "x", "payload": 1}):
        assert not validator("job.submitted").is_valid(wrong)


def test_figures_have_units() -> None:
    fields = STREAMS["$defs"]["EmissionsRecorded"]["properties"]
    assert fields["energy_mj"]["description"] == "mJ"
    assert fields["emissions_ug"]["description"] == "µg CO2e"
    assert "grid clock" in fields["started_at"]["description"]


def test_references_of_the_asyncapi_document_lead_somewhere() -> None:
    def follow(reference: str) -> Any:
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found

    def walk(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(walk, value))
        if not isinstance(value, dict):
            return 0
        if "$ref" in value:
            assert follow(value["$ref"])
            return 1
        return sum(map(walk, value.values()))

    assert walk(DOCUMENT) > 50


def test_addresses_and_operations_are_whole() -> None:
    for each in DOCUMENT["channels"].values():
        named = set(re.findall(r"{(\w+)}", each["address"]))
        assert named == set(each["parameters"]) <= set(PARAMETERS)
    for channel_ in CHANNELS:
        used = f"#/channels/{channel_.name}"
        actions = {
            each["action"]
            for each in DOCUMENT["operations"].values()
            if each["channel"]["$ref"] == used
        }
        assert "send" in actions


def test_examples_are_events() -> None:
    shown = 0
    for name, message in DOCUMENT["components"]["messages"].items():
        for example in message.get("examples", ()):
            validator(name).validate(example["payload"])
            shown += 1
    assert shown == 2


def recorded(deployment: Path) -> Iterator[tuple[str, str, Any]]:
    """(stream, type, data) of every event in its archive."""
    for file in sorted(deployment.rglob("*.gz")):
        for line in map(json.loads, gzip.decompress(file.read_bytes()).splitlines()):
            if "type" in line:  # else it is a dead letter, or an entry that was no event
                yield line["stream"], line["type"], line["data"]
