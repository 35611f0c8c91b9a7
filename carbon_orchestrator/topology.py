"""READ FIRST: the whole data path on one page.

    HTTP ──► gateway ──► jobs ───────────┐
    other services ───► jobs             ├─► router ──► dispatch.fast ─► worker(s) FAST ─┐
    grid API/trace ─► signal ─► intensity┘     │   └──► dispatch.eco ──► worker(s) ECO  ─┤
                                               └──► deferrals                            │
      accounting ◄── emissions, completions ◄────────────────────────────────────────────┘
      scaler ◄── intensity, what waits and runs ──► sizes of the pools

| stream               | events                                    | written by       | group      |
|----------------------|-------------------------------------------|------------------|------------|
| jobs.urgent, jobs    | job.submitted, job.cancel_requested       | gateway, outside | router     |
| intensity            | intensity.observed                        | signal           | router     |
| deferrals            | job.deferred, job.suspend_requested,      | router           | -          |
|                      | job.stop_requested, job.rejected,         |                  |            |
|                      | job.cancelled                             |                  |            |
| reviews              | jobs.reviewed                             | router           | -          |
| dispatch.SITE[.LANE] | job.dispatched                            | router           | worker     |
| completions          | job.started, job.completed, job.failed,   | worker           | accounting |
|                      | job.suspended                             |                  |            |
| emissions            | emissions.recorded, emissions.settled     | worker,          | accounting |
|                      |                                           | accounting       |            |
| operations           | role.started, operator.acted              | any, operator    | -          |
| scaling              | pool.scaled                               | scaler           | -          |
| seals                | segment.sealed (streams/sealing.py)       | accounting       | -          |
| dead-letters         | what nobody could process                 | any              | -          |

All of it is there once in each partition. The signal publishes to the first one, and copies to the
others (signal/copying.py); API keys and what scalers hold are in the first only.

Router, workers and gateway also follow `intensity` as a table, each on its own. A SITE is a
pool in a zone: `fast` and `eco` are the home zone's, `eco@FR` is zone FR's.
Lanes are streams read in order: `urgent` before `due` (jobs that may wait no longer) before
the rest, so urgent work never waits behind other work. State beside the streams:

| key                  | what                                                                    |
|----------------------|-------------------------------------------------------------------------|
| job:ID               | hash: the job's record (record.py)                                      |
| jobs.in:STATE        | sorted set: ids of the jobs in that state, by submission                |
| wake                 | sorted set: ids of the deferred jobs, by planned start                  |
| running.interruptible| sorted set: ids of running jobs that may be suspended, by submission    |
| booked:SITE          | hash: changes of the site's booked load by time (router/capacity.py)    |
| workers:SITE         | sorted set: NAME:SLOTS of its workers, by when last heard of (wall ms)  |
| scaler:SITE          | hash: which scaler sizes the site, until when (wall ms), to how many    |
|                      | workers, and what it remembers (scaler/holding.py)                      |
| totals:DAY           | hash: sums of the day; totals:ever has those of all days (accounting)   |
| days                 | sorted set of the days that have totals                                 |
| settled, unsettled   | hash: how far accounting has settled; sorted set: attempts that have no |
|                      | bound yet, by deadline (accounting/settlement.py)                       |
| chain, archived      | hashes: the last seal, and up to where each stream is sealed; up to     |
|                      | where each is archived (streams/sealing.py, streams/archive.py)         |
| api-keys             | hash: id to what is known of an API key, its secret's hash among it     |
| held:KEYID           | sorted set: ids of the jobs that came with an API key and had not ended |
|                      | when the gateway last looked, by submission                             |
| progress:ID:N        | string: how far the Nth attempt of a job is (progress.py)               |
| output:ID            | byte log (streams/byte_log.py): the last of what a job has written, by  |
|                      | attempt                                                                 |
| durations:TYPE:POOL  | hash: run times and energy (accounting writes, router reads)            |
| clock, signal        | hashes: the grid clock, and how many partitions there are; per zone what|
|                      | the signal published last, or why it publishes nothing                  |
| receipt:COMMITTER    | string: the last commit's receipt (streams/commit.py)                   |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

from carbon_orchestrator.events import EVENTS, POOLS, Pool, Urgency
from streams.codec import Codec
from streams.dead_letters import DEAD_LETTERS
from streams.keys import Partition

CODEC = Codec(EVENTS)

Lane = Literal["urgent", "due", ""]
#: In order of reading.
LANES: tuple[Lane, ...] = ("urgent", "due", "")

ROUTER = "router"
WORKER = "worker"
ACCOUNTING = "accounting"


def site(pool: Pool, zone: str = "") -> str:
    """The name of a pool in a zone; "" is the home zone."""
    return f"{pool}@{zone}" if zone else pool


class Topology:
    """Full key names of one partition. `zones`: the pools of the zones besides the home zone,
    which has both; in every method a zone of "" is the home zone."""

    def __init__(self, partition: Partition, zones: Mapping[str, Sequence[Pool]] = {}) -> None:
        self.partition = partition
        everywhere = {"": POOLS, **zones}
        self.sites = [(pool, zone) for zone, pools in everywhere.items() for pool in pools]
        key = partition.key
        self.jobs = key("jobs")
        self.jobs_urgent = key("jobs.urgent")
        self.intensity = key("intensity")
        self.deferrals = key("deferrals")
        self.reviews = key("reviews")
        self.completions = key("completions")
        self.emissions = key("emissions")
        self.operations = key("operations")
        self.scaling = key("scaling")
        self.seals = key("seals")
        self.chain = key("chain")
        self.archived = key("archived")
        self.settled = key("settled")
        self.unsettled = key("unsettled")
        self.api_keys = key("api-keys")
        self.dead_letters = key(DEAD_LETTERS)
        self.clock = key("clock")
        self.signal = key("signal")
        self.days = key("days")
        self.ever = key("totals:ever")
        self.wake = key("wake")
        self.interruptible = key("running.interruptible")
        self._record = key("job:")
        self._index = key("jobs.in:")
        self._dispatch = key("dispatch.")
        self._progress = key("progress:")
        self._output = key("output:")

    def jobs_lane(self, urgency: Urgency) -> str:
        return self.jobs_urgent if urgency == "urgent" else self.jobs

    def record(self, job_id: str) -> str:
        return self._record + job_id

    def progress(self, job_id: str, attempt: int) -> str:
        return f"{self._progress}{job_id}:{attempt}"

    def output(self, job_id: str) -> str:
        return self._output + job_id

    def index(self, state: str) -> str:
        return self._index + state

    def dispatch(self, pool: Pool, lane: Lane = "", zone: str = "") -> str:
        stream = self._dispatch + (f"{pool}@{zone}" if zone else pool)
        return f"{stream}.{lane}" if lane else stream

    def dispatch_lanes(self, pool: Pool, zone: str = "") -> list[str]:
        return [self.dispatch(pool, lane, zone) for lane in LANES]

    def held(self, key_id: str) -> str:
        return self.partition.key(f"held:{key_id}")

    def booked(self, pool: Pool, zone: str = "") -> str:
        return self.partition.key(f"booked:{site(pool, zone)}")

    def workers(self, pool: Pool, zone: str = "") -> str:
        return self.partition.key(f"workers:{site(pool, zone)}")

    def scaler(self, pool: Pool, zone: str = "") -> str:
        return self.partition.key(f"scaler:{site(pool, zone)}")

    def totals(self, day: str) -> str:
        return self.partition.key(f"totals:{day}")

    def durations(self, job_type: str, pool: Pool) -> str:
        return self.partition.key(f"durations:{job_type}:{pool}")

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Every stream that a group consumes, by group."""
        return {
            ROUTER: [self.jobs_urgent, self.jobs, self.intensity],
            WORKER: [
                stream for pool, zone in self.sites for stream in self.dispatch_lanes(pool, zone)
            ],
            ACCOUNTING: [self.completions, self.emissions],
        }

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """The streams that each kind of role reads; one live reader of any of them will do."""
        pools = {
            f"{WORKER} {site(pool, zone)}": self.dispatch_lanes(pool, zone)
            for pool, zone in self.sites
        }
        return {ROUTER: self.groups[ROUTER], **pools, ACCOUNTING: self.groups[ACCOUNTING]}

    @cached_property
    def streams(self) -> list[str]:
        """Every stream."""
        grouped = [stream for streams in self.groups.values() for stream in streams]
        return [
            *grouped,
            self.deferrals,
            self.reviews,
            self.operations,
            self.scaling,
            self.dead_letters,
            self.seals,
        ]


#: Keys that live as long as the deployment, as names in a partition ("*" matches anything).
PERMANENT = (
    "jobs*",
    "intensity",
    "deferrals",
    "reviews",
    "dispatch.*",
    "completions",
    "emissions",
    "dead-letters",
    "operations",
    "scaling",
    "scaler:*",
    "seals",
    "chain",
    "archived",
    "settled",
    "unsettled",
    "api-keys",
    "held:*",
    "totals:*",
    "days",
    "wake",
    "running.interruptible",
    "booked:*",
    "workers:*",
    "durations:*",
    "clock",
    "signal",
)
