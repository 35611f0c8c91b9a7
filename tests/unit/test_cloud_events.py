"""What the CloudEvents SDK sends is what is taken, in every mode."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as Sent
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from carbon_orchestrator.gateway.intake.cloud_events import (
    LONGEST,
    CloudEvent,
    batch,
    binary,
    structured,
)
from carbon_orchestrator.gateway.intake.outcome import Refused

FORMAT = JSONFormat()
text = st.text(
    st.characters(
        exclude_categories=("Cs", "Cc"),
        exclude_characters=[
            chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)
        ]
        + [chr(code) for code in range(0xFDD0, 0xFDF0)],
    ),
    min_size=1,
    max_size=30,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
data = st.dictionaries(st.text(max_size=8), values, max_size=5)
EVENT = {"specversion": "1.0", "id": "7", "source": "/tests", "type": "job.submitted", "data": {}}


def event(**changes: Any) -> bytes:
    """A structured event; None takes an attribute away."""
    changed = {name: value for name, value in (EVENT | changes).items() if value is not None}
    return json.dumps(changed).encode()


def refusal(answer: object) -> tuple[str, str]:
    """The field at fault, and why."""
    assert isinstance(answer, Refused)
    return str(answer.more.get("field", "")), answer.detail


@settings(max_examples=50)
@given(source=text, name=text, kind=text, data=data, traced=st.booleans())
def test_what_the_sdk_sends_is_taken(
    source: str, name: str, kind: str, data: dict[str, Any], traced: bool
) -> None:
    attributes: dict[str, Any] = {"id": name, "source": source, "type": kind}
    attributes |= {"datacontenttype": "application/json", "subject": "a subject"}
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    if traced:
        attributes["traceparent"] = parent
    sent = to_binary(Sent(dict(attributes), data), FORMAT)
    headers = CIMultiDict(sent.headers)
    taken = [binary(headers, headers.get("content-type", ""), sent.body)]
    sent = to_structured(Sent(dict(attributes), data), FORMAT)
    taken.append(structured(sent.body))
    together = batch(b"[" + sent.body + b"," + sent.body + b"]", 2)
    assert isinstance(together, list)
    taken += map(structured, together)
    as_bytes = Sent(dict(attributes), json.dumps(data).encode())
    taken.append(structured(to_structured(as_bytes, FORMAT).body))
    for each in taken:
        assert isinstance(each, CloudEvent), each
        assert (each.source, each.id, each.type) == (source, name, kind)
        assert json.loads(each.data) == data
        assert each.traceparent == (parent if traced else None)


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "data"])
def test_what_is_missing_is_named(name: str) -> None:
    assert refusal(structured(event(**{name: None})))[0] == name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": "a\nb"}, "source"),
        ({"source": "x" * (LONGEST + 1)}, "source"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data_base64": "e30="}, "data_base64"),
        ({"data": None, "data_base64": "?"}, "data_base64"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    found, detail = refusal(structured(event(**changes)))
    assert found == field, detail
    assert detail


def test_null_is_absent_and_extensions_are_let_be() -> None:
    body = json.dumps(EVENT | {"datacontenttype": None, "traceparent": None, "mine": True}).encode()
    taken = structured(body)
    assert isinstance(taken, CloudEvent)
    assert taken.traceparent is None


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "text/JSON", "a/b+json"])
def test_any_json_is_data(media: str) -> None:
    assert isinstance(structured(event(datacontenttype=media)), CloudEvent)


def test_data_may_be_base64() -> None:
    encoded = base64.b64encode(b'{"type":"x"}').decode()
    taken = structured(event(data=None, data_base64=encoded))
    assert isinstance(taken, CloudEvent)
    assert taken.data == b'{"type":"x"}'


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"{", b'{"id":"1","id":"2"}', b"\xff", b'{"data":' + b"[" * 99]
)
def test_what_is_no_event_is_malformed(body: bytes) -> None:
    answer = structured(body)
    assert isinstance(answer, Refused)
    assert answer.status in (400, 422)


def test_a_batch_is_an_array_of_so_many() -> None:
    assert batch(b"[]", 3) == []
    for body in (b"{}", b"[", b"7", b"\xff"):
        answer = batch(body, 3)
        assert isinstance(answer, Refused)
        assert answer.status == 400
    answer = batch(b"[1,2,3,4]", 3)
    assert isinstance(answer, Refused)
    assert answer.status == 413


def test_headers_are_percent_encoded() -> None:
    headers = CIMultiDict(
        {"CE-SpecVersion": "1.0", "ce-ID": "%E2%82%AC", "ce-source": "/a b", "ce-type": "t"}
    )
    taken = binary(headers, "", b"{}")
    assert isinstance(taken, CloudEvent)
    assert taken.id == "€"
    headers["ce-id"] = "%ff"
    assert refusal(binary(headers, "", b"{}"))[0] == "id"


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_told_what_is_wrong(body: bytes) -> None:
    for answer in (structured(body), batch(body, 5)):
        assert isinstance(answer, (CloudEvent, Refused, list))
