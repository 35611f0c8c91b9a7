"""What the client says and understands, without a gateway."""

from __future__ import annotations

import asyncio
import doctest
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from cyclopts import App
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carbon_orchestrator
from carbon_orchestrator import Client, Job, JobList, Publisher, SyncClient
from carbon_orchestrator.cli.faults import Failure, told
from carbon_orchestrator.client import bulk, submission
from carbon_orchestrator.client.errors import (
    Conflict,
    Forbidden,
    Incomplete,
    InvalidJob,
    InvalidRequest,
    NotFound,
    OrchestratorError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    of_problem,
)
from carbon_orchestrator.client.following import Followed, Pace
from carbon_orchestrator.client.grid import BestWindow, Emissions
from carbon_orchestrator.client.server_sent import Frames, TooLong
from carbon_orchestrator.client.submission import encoded
from carbon_orchestrator.client.transport import retry_seconds
from carbon_orchestrator.config import ConfigError

HEAVY = ["aiohttp", "redis", "numpy", "msgspec", "structlog", "anyio", "asyncio"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=8,
).filter(lambda value: "Infinity" not in json.dumps(value))


def encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def loaded(statement: str, names: list[str]) -> list[str]:
    """Which of the modules are there after the statement, in a fresh interpreter."""
    script = f"{statement}\nimport sys; print(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.split()


# -- what is imported ----------------------------------------------------------------------------


def test_the_package_loads_nothing_until_it_is_asked_for() -> None:
    assert loaded("import carbon_orchestrator", HEAVY) == []
    assert "aiohttp" in loaded("from carbon_orchestrator import Client", HEAVY)


def test_a_pytest_run_that_does_not_use_the_plugin_loads_nothing_for_it() -> None:
    beyond = ["aiohttp", "redis", "numpy", "msgspec", "structlog", "anyio"]
    assert loaded("import pytest, carbon_orchestrator.pytest_plugin", beyond) == []


def test_every_name_that_is_promised_is_there() -> None:
    for name in carbon_orchestrator.__all__:
        assert getattr(carbon_orchestrator, name) is not None
        assert name in dir(carbon_orchestrator)
    with pytest.raises(AttributeError, match="Clinet"):
        _ = carbon_orchestrator.Clinet


# -- what is sent --------------------------------------------------------------------------------


def test_the_example_of_encoding_is_true() -> None:
    assert doctest.testmod(submission).attempted > 0
    assert doctest.testmod(submission).failed == 0


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), JSON, max_size=5).filter(encodable))
def test_a_payload_is_sent_as_it_is(payload: dict[str, Any]) -> None:
    assert json.loads(encoded({"type": "x", "payload": payload})) == {
        "type": "x",
        "payload": payload,
    }


def test_python_values_that_json_has_no_word_for() -> None:
    @dataclass
    class Setting:
        depth: int

    payload = {
        "rate": np.float32(0.5),
        "sizes": np.array([1, 2]),
        "at": datetime(2026, 1, 31, tzinfo=UTC),
        "setting": Setting(3),
    }
    sent = json.loads(encoded({"type": "x", "payload": payload, "timeout": timedelta(minutes=2)}))
    assert sent["timeout"] == 120
    assert sent["payload"] == {
        "rate": 0.5,
        "sizes": [1, 2],
        "at": "2026-01-31T00:00:00Z",
        "setting": {"depth": 3},
    }


def test_a_deadline_needs_a_time_zone() -> None:
    sent = encoded({"type": "x", "deadline": datetime(2026, 1, 31, 18, tzinfo=UTC)})
    assert json.loads(sent)["deadline"] == "2026-01-31T18:00:00+00:00"
    with pytest.raises(InvalidJob, match="time zone") as error:
        encoded({"type": "x", "deadline": datetime(2026, 1, 31, 18)})
    assert error.value.field == "deadline"


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, object(), LOOP, "\ud800", b"bytes\xff".decode("latin-1").encode]
)
def test_what_json_cannot_say_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises(InvalidJob, match="JSON") as error:
        encoded({"type": "x", "payload": {"value": value}})
    assert error.value.field == "payload"


def test_a_field_cannot_smuggle_in_others() -> None:
    with pytest.raises(InvalidJob, match="no field"):
        encoded({"type": "x", 'a":1,"urgency': "urgent"})


# -- what comes back -----------------------------------------------------------------------------

MADE = "2026-01-31T18:00:00.000Z"


def job(**more: Any) -> Job:
    told = {"id": "0-0", "state": "submitted", "type": "training", "submitted_at": MADE, **more}
    return msgspec.convert(told, Job)


def test_a_job_tells_its_figures_in_plain_units() -> None:
    done = job(
        state="completed",
        pool="eco",
        energy_mj=2_500,
        emissions_ug=1_500_000,
        baseline_ug=4_000_000,
        avoided_ug=2_500_000,
        timeline=[{"at": MADE, "event": "submitted"}, {"at": MADE, "event": "completed"}],
        runs=[{"at": MADE, "attempt": 1, "outcome": "completed", "output": "hi", "new": 1}],
        a_field_of_a_newer_gateway=1,
    )
    assert (done.energy_j, done.emissions_g, done.avoided_g) == (2.5, 1.5, 2.5)
    assert (done.ended, done.succeeded, done.waiting) == (True, True, False)
    assert done.ended_at == datetime(2026, 1, 31, 18, tzinfo=UTC)
    assert done.output == "hi"
    assert repr(done) == "<Job 0-0 training: completed on ECO with 1.5 gCO2e>"


def test_a_waiting_job_says_until_when_and_why() -> None:
    waiting = job(state="deferred", planned_start=MADE, reason="340 g/kWh is high")
    assert waiting.planned_start == datetime(2026, 1, 31, 18, tzinfo=UTC)
    assert (waiting.waiting, waiting.ended, waiting.ended_at) == (True, False, None)
    assert repr(waiting) == (
        "<Job 0-0 training: deferred until 2026-01-31 18:00:00 UTC (340 g/kWh is high)>"
    )


def test_a_state_of_a_newer_gateway_is_no_end() -> None:
    assert not job(state="paused").ended


@given(st.text(), st.text())
def test_a_notebook_shows_no_markup_of_a_submitter(kind: str, reason: str) -> None:
    hostile = f"<script>{reason}</script>"
    shown = job(type=kind, reason=hostile, labels={"<b>": "<i>"})._repr_html_()
    assert "<script" not in shown
    bare = job(type="", reason="x")._repr_html_()
    assert shown.count("<") == bare.count("<")


def test_sums_in_a_notebook() -> None:
    sums = Emissions(
        by=("project",),
        rows=[
            {"project": "<b>", "completed": 2, "emissions_ug": 9, "emitted_now_ug": 1_000_000},
            {"project": "b", "emissions_ug": 500_000, "avoided_ug": 250_000},
        ],
    )
    assert (sums.emissions_g, sums.avoided_g) == (1.5, 0.25)
    assert "<b>" not in sums._repr_html_()
    assert "&lt;b&gt;" in sums._repr_html_()


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "malformed-json", InvalidJob),
        (413, "body-too-large", InvalidJob),
        (422, "invalid-job", InvalidJob),
        (422, "invalid-idempotency-key", InvalidRequest),
        (422, "idempotency-key-reused", Conflict),
        (401, "key-needed", Unauthorized),
        (403, "scope-missing", Forbidden),
        (404, "no-such-job", NotFound),
        (409, "job-has-ended", Conflict),
        (429, "queue-share", TooManyRequests),
        (503, "server-unavailable", Unavailable),
        (500, "internal-error", OrchestratorError),
    ],
)
def test_problems_are_errors_by_what_can_be_done(
    status: int, kind: str, error: type[Exception]
) -> None:
    problem = {"type": f"urn:carbon-orchestrator:problem:{kind}", "detail": "so it is"}
    made = of_problem(status, problem, 3.0, submitting=True)
    assert type(made) is error
    assert (made.status, made.kind) == (status, kind)
    assert "so it is" in str(made)


def test_a_wrong_query_is_no_wrong_job() -> None:
    problem = {"type": "urn:carbon-orchestrator:problem:invalid-query", "detail": "no state 'x'"}
    assert type(of_problem(422, problem, None, submitting=False)) is InvalidRequest


def test_an_invalid_job_names_the_field_once() -> None:
    kind = "urn:carbon-orchestrator:problem:invalid-job"
    told = of_problem(
        422, {"type": kind, "detail": "at most 32", "field": "labels"}, None, submitting=True
    )
    assert str(told) == "labels: at most 32"
    told = of_problem(
        422, {"type": kind, "detail": "labels are few", "field": "labels"}, None, submitting=True
    )
    assert str(told) == "labels are few"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("3", 3.0), ("0", 0.0), (None, None), ("-1", None), ("nan", None), ("inf", None)),
        *(("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_seconds(header) == seconds


# -- who is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["localhost:8000", "redis://x", "http://", "http://h:99999", "x"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="gateway"):
        Client(url)


def test_the_environment_says_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBON_URL", "https://jobs.example/base/")
    monkeypatch.setenv("CARBON_API_KEY", "co_secret")
    client = Client()
    assert client.url == "https://jobs.example/base"
    assert client._transport._headers["Authorization"] == "Bearer co_secret"
    assert "secret" not in repr(client)
    assert "Authorization" not in Client(api_key="")._transport._headers


@pytest.mark.parametrize("key", ["a\r\nX: y", "a b", "schlüssel"])
def test_a_key_that_is_none_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as error:
        Client(api_key=key)
    assert key not in str(error.value)


async def test_a_publisher_says_who_it_is_and_no_password() -> None:
    async with Publisher("redis://me:hush@localhost:1/0", source="billing") as publisher:
        assert "hush" not in repr(publisher)
        assert "billing" in repr(publisher)
    with pytest.raises(InvalidRequest, match="source"):
        Publisher(source="")
    with pytest.raises(ConfigError):
        Publisher("http://localhost", source="billing")


def test_a_client_that_is_closed_or_of_another_loop_says_so() -> None:
    closed = SyncClient("http://127.0.0.1:9")
    closed.close()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        closed.health()

    client = Client("http://127.0.0.1:9", patience=0)

    async def ask() -> None:
        with pytest.raises(Unavailable, match="no gateway at"):
            await client.health()

    async def again() -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            await client.health()

    async def both() -> None:
        await ask()
        await client.aclose()

    asyncio.run(both())
    asyncio.run(again())


# -- following -----------------------------------------------------------------------------------


@given(st.integers(1, 100_000), st.lists(st.booleans(), max_size=40))
def test_looks_are_bounded_and_grow(jobs: int, changes: list[bool]) -> None:
    pace = Pace()
    waits = [pace.next(jobs, changed) for changed in changes]
    assert all(0.05 <= wait <= max(5.0, jobs / 50) for wait in waits)
    assert all(jobs / wait <= 50 or wait >= 0.05 for wait in waits)
    quiet = [pace.next(1, False) for _ in range(20)]
    assert quiet == sorted(quiet)
    assert quiet[-1] == 5.0


def test_news_is_what_has_changed() -> None:
    followed = Followed(["0-0", "0-0"])
    assert followed.open == ["0-0"]
    assert followed.look(job())
    assert not followed.look(job())
    assert followed.look(job(state="deferred", planned_start=MADE))
    assert followed.look(job(state="deferred", planned_start="2026-01-31T19:00:00Z"))
    assert followed.look(job(state="failed"))
    assert followed.open == []


async def test_many_with_nothing_among_them() -> None:
    async with Client("http://127.0.0.1:9") as client:
        assert await client.submit_many([]) == []
        assert await client.wait([]) == []
        assert [each async for each in client.jobs(limit=0)] == []
        with pytest.raises(ValueError, match="at_once"):
            await client.submit_many([], at_once=0)


async def test_a_gateway_that_is_not_there_ends_a_batch_early() -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield {"type": "training"}

    async with Client("http://127.0.0.1:9", patience=0) as client:
        with pytest.raises(Incomplete, match="the rest was not tried") as error:
            await client.submit_many(endless(), key="all", at_once=2)
    assert taken == len(error.value.jobs) == 2 * bulk.MOST_LINES
    assert set(error.value.jobs) == {None}
    errors = error.value.errors
    assert {each: one.key for each, one in errors.items() if isinstance(one, Unavailable)} == {
        each: f"all-{each}" for each in range(taken)
    }


@pytest.mark.parametrize("url", ["http://ada:canary-77@127.0.0.1:1", "ftp://ada:canary-77@h/"])
def test_no_login_in_a_url_is_told(url: str) -> None:
    async def told() -> str:
        try:
            async with Client(url, api_key="", patience=0) as client:
                try:
                    await client.health()
                finally:
                    shown.append(f"{client!r} {client.url}")
        except (ValueError, OrchestratorError) as error:
            return str(error)
        return ""

    shown: list[str] = []
    said = asyncio.run(told())
    assert said
    assert "canary-77" not in f"{said} {shown}"


def test_words_of_others_do_not_rule_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    app = App()

    @app.default
    def fail() -> None:
        raise Failure("the gateway says: \x1b]0;title\x07\x1b[2J\nand more")

    assert told(app, []) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\\x1b]0;title\\x07" in said


# -- many as lines -------------------------------------------------------------------------------


def taken(*jobs: Any, key: str | None = None) -> list[list[dict[str, Any]]]:
    """What is sent in each request."""
    lines = bulk.Lines(iter(jobs), key)
    requests = []
    while (took := lines.take()) != ([], []):
        requests.append([json.loads(each) for each in bulk.ndjson(took[0]).splitlines()])
    return requests


def test_jobs_with_no_key_of_their_own_get_one_by_their_place() -> None:
    jobs = [{"type": "a"}, {"type": "a", "key": None}, {"type": "a", "key": "own"}]
    (request,) = taken(*jobs, b'{"type":"a","idempotency_key":"line"}', b" {} ", key="all")
    assert [each["idempotency_key"] for each in request] == [
        "all-0",
        "all-1",
        "own",
        "line",
        "all-4",
    ]
    assert [each.get("type") for each in request] == ["a", "a", "a", "a", None]
    (request,) = taken(*jobs[:2])
    assert len({each["idempotency_key"] for each in request}) == 2


def test_a_line_of_json_is_sent_as_it_stands() -> None:
    text = b'{"type": "a",\r\n "payload": {"big": 123456789012345678901234567890, "x": 1.10}}'
    made = bulk.line(0, text, "k")
    assert made.body == text.replace(b"\r\n", b"  ")
    assert made.text == b'{"idempotency_key":"k-0",' + made.body[1:]
    own = bulk.line(0, b'{"type":"a","idempotency_key":"o"}', "k")
    assert (own.key, own.body) == ("o", b'{"type":"a"}')


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b'{"idempotency_key":1}', b"\xff", b"null"])
def test_a_line_that_is_no_job_is_told_by_its_place(text: bytes) -> None:
    lines, wrong = bulk.Lines(iter([text, b"{}"]), None).take()
    assert [each.index for each in lines] == [1]
    assert [(each.index, type(each.error)) for each in wrong] == [(0, InvalidJob)]


def test_requests_are_bounded_and_a_trace_goes_alone() -> None:
    assert [len(each) for each in taken(*[{"type": "a"}] * 2500)] == [1000, 1000, 500]
    big = {"type": "a", "payload": {"x": "y" * 400_000}}
    assert [len(each) for each in taken(*[big] * 5)] == [2, 2, 1]
    huge = {"type": "a", "payload": {"x": "y" * (bulk.MOST_BYTES + 1)}}
    assert [len(each) for each in taken(big, huge, big)] == [1, 1, 1]
    traced = {"type": "a", "traceparent": "00-0-0-00"}
    assert [len(each) for each in taken({"type": "a"}, traced, {"type": "a"})] == [1, 1, 1]


# -- what comes as it happens --------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.text("abc.", min_size=1), st.text().filter(str.isprintable), st.text("0-9")),
        max_size=5,
    ),
    st.lists(st.integers(1, 40)),
    st.sampled_from(["\n", "\r\n"]),
)
def test_frames_are_the_same_wherever_they_are_cut(
    sent: list[tuple[str, str, str]], cuts: list[int], end: str
) -> None:
    text = "".join(
        f": beat{end}event: {kind}{end}data: {data}{end}id: {at}{end}{end}"
        for kind, data, at in sent
    ).encode()
    frames, found = Frames(), []
    for cut in [*cuts, len(text) + 1]:
        found += list(frames.feed(text[:cut]))
        text = text[cut:]
    assert [(each.kind, each.data, each.position) for each in found] == sent


def test_a_position_without_an_event_is_kept_and_half_an_event_is_not_told() -> None:
    frames = Frames("1")
    assert list(frames.feed(b"retry: 2000\n\nid: 5\n\nid: 6\ndata: half\n")) == []
    assert (frames.position, frames.retry) == ("5", 2.0)
    (frame,) = frames.feed(b"data:rest\n\n")
    assert (frame.kind, frame.data, frame.position) == ("message", "half\nrest", "6")


def test_what_never_ends_is_no_event() -> None:
    frames = Frames()
    chunks = [b"x" * (1 << 20)] * 20
    with pytest.raises(TooLong):
        _ = [list(frames.feed(each)) for each in chunks]


# -- windows and lists ---------------------------------------------------------------------------


def window(**more: Any) -> BestWindow:
    told = {
        "zone": "<GB>",
        "duration_ms": 7_200_000,
        "now": {"start": MADE, "end": "2026-01-31T20:00:00Z", "intensity": 200.0},
        "best": {"start": "2026-02-01T02:00:00Z", "end": "2026-02-01T04:00:00Z", "intensity": 80.4},
        "saving": 0.6,
        **more,
    }
    return msgspec.convert(told, BestWindow)


def test_the_best_window_in_a_sentence() -> None:
    assert str(window()) == (
        "Start at 2026-02-01 02:00:00 UTC: 80 gCO2e/kWh, 60 % less than 200 for a start now."
    )
    assert window().wait == timedelta(hours=8)
    at_once = window(best={"start": MADE, "end": MADE, "intensity": 200.0}, simulated=True)
    assert str(at_once) == ("Start now: 200 gCO2e/kWh, SIMULATED; waiting would not be better.")
    assert "&lt;GB&gt;" in window()._repr_html_()
    assert "saving" not in window(saving=None)._repr_html_()


def test_a_list_of_jobs_in_a_notebook_is_bounded_and_no_markup() -> None:
    shown = JobList(job(type="<b>", state="deferred") for _ in range(150))._repr_html_()
    assert "<b>" not in shown
    assert shown.count("<tr>") == 101
    assert "and 50 more" in shown


def test_progress_is_told() -> None:
    running = job(state="running", progress={"at": MADE, "fraction": 0.42, "message": "epoch 3"})
    assert "42 %, epoch 3" in running._repr_html_()
    assert running.progress is not None
    assert running.progress.finish_at is None
