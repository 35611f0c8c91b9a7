"""What an audit recomputes, piece by piece."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_orchestrator.audit.configurations import Announced, decode
from carbon_orchestrator.audit.decisions import Facts, Policies, again
from carbon_orchestrator.audit.findings import Findings
from carbon_orchestrator.audit.grids import Grids, order_of
from carbon_orchestrator.audit.histories import Histories, Job
from carbon_orchestrator.audit.submissions import Refused, Taken
from carbon_orchestrator.config import Config, JobType, complete, public
from carbon_orchestrator.events import (
    Decision,
    EmissionsRecorded,
    IntensityObserved,
    JobCancelled,
    JobCompleted,
    JobDeferred,
    JobDispatched,
    JobStarted,
    JobSubmitted,
    Spec,
    StopRequested,
)
from carbon_orchestrator.lifecycle import State
from carbon_orchestrator.router import policies
from carbon_orchestrator.router.deciding import on_record, policy_of, view
from carbon_orchestrator.router.outlook import Bands, Outlook
from carbon_orchestrator.router.policies import UnknownPolicy, recorded_policy
from carbon_orchestrator.router.policy import Dispatch, JobView, Site
from carbon_orchestrator.router.threshold import Threshold
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.series import emissions_ug
from streams.event import Message

NOW = 1_700_000_000_000
HOUR = 3_600_000
CONFIG = complete(Config(types={"x": JobType(command=["true"])}, default_types=False))
BANDS = Bands.of(CONFIG.threshold)
BY = Announced("router", 0, CONFIG, BANDS)
JOB_ID = "0" * 26 + "-0"
SPEC = Spec(job_id=JOB_ID, type="x", submitted_at=NOW)


def decision(urgency: str = "normal", **changes: Any) -> Decision:
    policy, params = policy_of(CONFIG)
    job = view(msgspec.structs.replace(SPEC, urgency=urgency), CONFIG, {}, 1.0, policy)
    sites = [Site(Outlook(zone="local"))]
    made = on_record(policy.decide(job, sites, NOW), job, sites, policy, params, NOW, "local")
    return msgspec.structs.replace(made, **changes)


def no_outlook(zone: str, place: str, bands: Bands) -> Outlook:
    raise AssertionError(place)


# -- versions of policies ----------------------------------------------------------------------


class Changed(Threshold, frozen=True):
    """A version that runs all on FAST."""

    version = 3

    def decide(self, job: JobView, sites: Any, now: int) -> Dispatch:
        return Dispatch(zone="local", pool="fast", reason="changed")


def test_what_an_older_version_decided_is_decided_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    old = decision()
    assert old.pool == "eco"
    monkeypatch.setitem(policies.POLICIES, ("threshold", 3), lambda params: Changed())
    new = msgspec.structs.replace(old, policy_version=3, pool="fast", reason="changed")
    new = msgspec.structs.replace(new, latest_start=None)
    for each in (old, new):
        made = again(each, Facts.of(SPEC), Policies().of(each), BY, no_outlook)
        assert made.decision == each
    other = msgspec.structs.replace(old, policy_version=3)
    assert again(other, Facts.of(SPEC), Policies().of(other), BY, no_outlook).decision != other


def test_a_version_or_parameters_that_nobody_knows_are_told() -> None:
    with pytest.raises(UnknownPolicy, match="no policy 'threshold' of version 9; there are"):
        recorded_policy("threshold", 9, b"{}")
    with pytest.raises(UnknownPolicy, match="greenest_slots 1 with other parameters"):
        recorded_policy("greenest_slots", 1, b'{"min_saving":"much"}')


def test_a_configuration_on_record_is_read_without_what_later_versions_added() -> None:
    raw = msgspec.json.decode(bytes(public(CONFIG)))
    raw["of_the_future"] = {"x": 1}
    raw["threshold"]["also"] = 2
    raw["pools"]["fast"]["and"] = 3
    read = decode(msgspec.json.encode(raw))
    assert (read.threshold, read.pools, read.urgency) == (
        *(CONFIG.threshold, CONFIG.pools),
        CONFIG.urgency,
    )


# -- what was known of the grid ------------------------------------------------------------------

OBSERVED = st.lists(
    st.tuples(
        st.integers(0, 60),  # half hours
        st.floats(1, 900),
        st.sampled_from(["local", "FR"]),
        st.sampled_from(["average", "marginal"]),
        st.booleans(),  # a forecast
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=50)
@given(OBSERVED, st.data())
def test_outlooks_and_series_are_those_that_the_table_had(rows: Any, data: st.DataObject) -> None:
    grids, table = Grids(), Intensities("local", BANDS)
    had: dict[str, Outlook] = {}
    events: dict[str, IntensityObserved] = {}
    places: list[str] = []
    begin = NOW + data.draw(st.integers(0, 60)) * HOUR // 2
    priced: list[Any] = []
    for number, (step, value, zone, kind, ahead) in enumerate(rows):
        time = NOW + step * HOUR // 2
        event = IntensityObserved(
            zone=zone,
            time=time,
            intensity=value,
            source="s",
            kind=kind,
            resolution_ms=HOUR // 2,
            forecast=[(time + HOUR, value / 2)] if ahead else [],
        )
        message = Message(f"{number // 3 + 1}-0", number % 3, event)
        grids.add(message)
        table.apply(message)
        place = f"{message.entry_id}/{message.index}"
        places.append(place)
        events[place] = event
        found = table.outlook()
        if found.intensity_id is not None:
            had[found.intensity_id] = found
        priced.append(emissions_ug(1000, begin, begin + HOUR, table.of("average", False)))
    for place, outlook in had.items():
        assert grids.outlook(events[place], place, BANDS) == outlook
    for place, expected in zip(places, priced, strict=True):
        series = grids.series(
            "local", ("average", False), order_of(place), begin, begin + HOUR, BANDS.max_age_ms
        )
        assert emissions_ug(1000, begin, begin + HOUR, series) == expected


# -- histories -----------------------------------------------------------------------------------


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def outcomes(self, message: Message, job_id: str) -> list[Taken | Refused]:
        return []

    def applied(self, job: Job, before: State | None, stream: str, message: Message) -> None:
        self.events.append(message.event.event_type.partition(".")[2])

    def ended(self, job: Job) -> None:
        self.events.append("over")


FINISH: dict[str, Any] = {
    "job_id": JOB_ID,
    "attempt": 1,
    "at": NOW,
    "started_at": NOW,
    "pool": "eco",
    "type": "x",
}
DEFERRED = JobDeferred(job_id=JOB_ID, decision=decision())
LIFE: list[tuple[str, Any]] = [
    ("jobs", JobSubmitted(type="x", job_id=JOB_ID, submitted_at=NOW)),
    ("deferrals", DEFERRED),
    ("deferrals", DEFERRED),
    ("dispatch.eco", JobDispatched(attempt=1, spec=SPEC, decision=decision(), replans=1)),
    ("completions", JobStarted(job_id=JOB_ID, attempt=1, at=NOW, pool="eco", worker="w")),
    ("completions", JobCompleted(**FINISH, run_ms=5, urgency="normal", submitted_at=NOW)),
    (
        "emissions",
        EmissionsRecorded(
            **FINISH,
            energy_mj=1,
            energy_method="m",
            energy_uncertainty=0,
            emissions_ug=1,
            baseline_ug=1,
        ),
    ),
]
IN_ORDER = ["submitted", "deferred", "deferred", "dispatched", "started", "completed", "recorded"]


def told(
    events: list[tuple[str, Any]], *, late: bool = False, at_once: bool = False
) -> tuple[Findings, list[str]]:
    """`at_once`: in one millisecond."""
    findings, heard = Findings(), Heard()
    histories = Histories(findings, heard, lambda stream, message: message.event.job_id, late=late)
    for number, (stream, event) in enumerate(events):
        entry_id = f"7-{number}" if at_once else f"{number}-0"
        histories.take(stream, Message(entry_id, 0, event, source="gateway"))
    histories.finish(None, {})
    return findings, heard.events


@given(st.permutations(range(len(LIFE))))
def test_events_of_several_streams_in_any_order_are_one_history(order: list[int]) -> None:
    # Within a stream the order stands: the k-th of a stream stays its k-th.
    streams = [LIFE[number][0] for number in order]
    queues = {name: [each for each in LIFE if each[0] == name] for name in set(streams)}
    findings, heard = told([queues[name].pop(0) for name in streams])
    assert findings.diverging == 0
    assert heard[-1] == "over"
    assert sorted(heard[:-1]) == sorted(IN_ORDER)
    assert heard[:5] == IN_ORDER[:5]


STOPPED = StopRequested(job_id=JOB_ID, at=NOW, reason="enough")
CANCELLED = JobCancelled(job_id=JOB_ID, at=NOW, reason="enough")
#: Lives of which ids within a millisecond tell no order.
SHORT_LIVES = {
    "dispatched, then cancelled": [
        LIFE[0],
        ("dispatch.eco", JobDispatched(attempt=1, spec=SPEC, decision=decision())),
        ("deferrals", CANCELLED),
    ],
    "asked to stop, and done": [
        LIFE[0],
        ("dispatch.eco", JobDispatched(attempt=1, spec=SPEC, decision=decision())),
        *LIFE[4:5],
        ("deferrals", STOPPED),
        *LIFE[5:],
    ],
    "all of it": LIFE,
}


@pytest.mark.parametrize("life", SHORT_LIVES)
@given(data=st.data())
def test_within_a_millisecond_a_life_is_told_in_its_order(life: str, data: st.DataObject) -> None:
    events = SHORT_LIVES[life]
    names = data.draw(st.permutations([stream for stream, _ in events]))
    queues = {name: [each for each in events if each[0] == name] for name in set(names)}
    findings, heard = told([queues[name].pop(0) for name in names], at_once=True)
    assert findings.diverging == 0
    assert heard == [event.event_type.partition(".")[2] for _, event in events] + ["over"]


@pytest.mark.parametrize("missing", range(len(LIFE)))
def test_an_event_that_is_not_there_is_missed(missing: int) -> None:
    findings, _ = told(LIFE[:missing] + LIFE[missing + 1 :])
    assert findings.diverging
    assert findings.tallies["histories"].first[0].place is not None


@pytest.mark.parametrize("twice", range(1, len(LIFE)))
def test_an_event_that_is_there_twice_is_found(twice: int) -> None:
    if LIFE[twice][1] is DEFERRED:
        return  # one deferral more is a history, too: the seals tell
    findings, _ = told([*LIFE[: twice + 1], LIFE[twice], *LIFE[twice + 1 :]])
    assert findings.diverging


def test_a_record_that_begins_late_may_tell_of_jobs_under_way() -> None:
    findings, _ = told(LIFE[3:], late=True)
    assert findings.diverging == 0
    assert sum(findings.tallies["histories"].unchecked.values()) == len(LIFE) - 3


def test_an_end_that_says_otherwise_than_its_emissions_is_found() -> None:
    stream, burnt = LIFE[-1]
    other = msgspec.structs.replace(burnt, pool="fast")
    findings, _ = told([*LIFE[:-1], (stream, other)])
    (one,) = findings.tallies["histories"].first
    assert "otherwise than its emissions" in one.what
    assert "eco" in str(one.expected)
    assert "fast" in str(one.found)
