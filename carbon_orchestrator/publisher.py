"""For services that publish jobs straight to the streams, without a gateway.

An entry carries the CloudEvents attributes `source` and `id`, from which the router derives the
job's id: however often it is published, by whomever, it is one job.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import msgspec

from carbon_orchestrator.client.errors import Forbidden, InvalidJob, InvalidRequest, Unavailable
from carbon_orchestrator.client.submission import Deadline, Duration, encoded
from carbon_orchestrator.events import CancelRequested
from carbon_orchestrator.gateway.intake.strict import Malformed, WrongField, submission
from carbon_orchestrator.server_url import completed, shown
from carbon_orchestrator.submission import derived_job_id
from carbon_orchestrator.topology import Topology
from streams.connection import connect
from streams.errors import Refused, is_transient
from streams.keys import Partition
from streams.retry import backoff

DEFAULT_REDIS = "redis://127.0.0.1:6379/0"
_AT_ONCE = 256  # entries in one round trip
_LONGEST = 512  # characters of a source or an id
_MOST_BYTES = 1 << 20  # of a payload; the deployment's own limit is lower

Fields = dict[str, str | bytes]


class Publisher:
    """Publishes jobs and cancellations, from asyncio. Close it, or use it as a context manager.

    `url`: the stream server; $CARBON_REDIS_URL, else redis://127.0.0.1:6379/0; rediss:// for
    TLS, completed from the environment as for the roles ($CARBON_REDIS_PASSWORD, ...). The
    server's user `publisher` may do all that this does. `source`: who publishes, the CloudEvents
    `source`. `partition`: where there are several, the one to publish to; events of the same id
    meet only in the same one. `patience`: seconds for which an entry is sent again while the
    server is away.

    What is published is checked by the router: a job that cannot be accepted is rejected there,
    or is among the dead letters. A Client is told so at once.

    Raises ConfigError for a URL that cannot be one.

    >>> import asyncio
    >>> from carbon_orchestrator import Publisher, SyncClient
    >>> async def main() -> str:
    ...     async with Publisher(source="billing") as publisher:
    ...         first = await publisher.submit("analytics", urgency="urgent", id="invoice-7")
    ...         again = await publisher.submit("analytics", urgency="urgent", id="invoice-7")
    ...         assert first == again
    ...         return first
    >>> job_id = asyncio.run(main())
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        source: str,
        namespace: str = "carbon",
        partition: int = 0,
        patience: float = 30.0,
    ) -> None:
        self._url = completed(url or os.environ.get("CARBON_REDIS_URL") or DEFAULT_REDIS)
        self.source = _attribute("source", source)
        self._topology = Topology(Partition(namespace, partition))
        self._patience = patience
        self._redis = connect(self._url, partition=partition)
        self._turn = asyncio.Lock()  # one round trip at a time, on one connection

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self._url)!r}, source={self.source!r})"

    def job_id(self, id: str, source: str | None = None) -> str:
        """The id of the job that comes of an event, published already or not."""
        number = self._topology.partition.number
        return derived_job_id(number, "event", self.source if source is None else source, id)

    async def submit(
        self,
        type: str,
        *,
        payload: Mapping[str, Any] | None = None,
        urgency: str | None = None,
        deadline: Deadline | None = None,
        expected_duration: Duration | None = None,
        interruptible: bool | None = None,
        zones: Sequence[str] | None = None,
        project: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        max_attempts: int | None = None,
        id: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Publish a job, once the server has it; the job's id. Parameters as of Client.submit.

        `id`: the CloudEvents `id`; with the same source it is the same job, so name it after what
        the job is for. Without one, each call is a new job.

        Raises InvalidJob for what no job can say, Forbidden, and Unavailable, after which
        publishing again with the `id` in its `key` is safe.
        """
        job = {
            "type": type,
            "payload": payload,
            "urgency": urgency,
            "deadline": deadline,
            "expected_duration": expected_duration,
            "interruptible": interruptible,
            "zones": zones,
            "project": project,
            "labels": labels,
            "timeout": timeout,
            "max_attempts": max_attempts,
        }
        id = uuid.uuid4().hex if id is None else id
        try:
            await self._send([self._entry(job, id, traceparent)])
        except Unavailable as error:
            error.key = id
            raise
        return self.job_id(id)

    async def submit_many(self, jobs: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publish many jobs, each a mapping of what `submit` takes, hundreds in a round trip;
        the jobs' ids, in order. Give each an "id", so that all can be published again if this
        is interrupted. Raises as `submit`; those before the one at fault are published."""
        ids: list[str] = []
        source = iter(jobs)
        while batch := list(islice(source, _AT_ONCE)):
            named = [(job, job.get("id") or uuid.uuid4().hex) for job in batch]
            await self._send([self._entry(job, id, job.get("traceparent")) for job, id in named])
            ids += [self.job_id(id) for _, id in named]
        return ids

    async def cancel(self, job_id: str, reason: str = "cancelled by request") -> None:
        """Ask for the end of a job. One that has ended, or that there is none of, stays as it
        is: nobody answers. Raises as `submit`."""
        event = CancelRequested(job_id=job_id, reason=reason)
        entry: Fields = {
            "type": event.event_type,
            "source": self.source,
            "id": uuid.uuid4().hex,
            "data": msgspec.json.encode(event),
        }
        # The urgent lane does not wait behind jobs, but may overtake the one that it is about.
        await self._send([(self._topology.jobs_urgent, entry), (self._topology.jobs, entry)])

    def _entry(
        self, job: Mapping[str, Any], id: str, traceparent: str | None
    ) -> tuple[str, Fields]:
        """The stream, and the fields of the entry. Raises InvalidJob."""
        body = {name: value for name, value in job.items() if name not in ("id", "traceparent")}
        data = encoded(body)
        try:
            # As strictly as a gateway: what a router does not know it would ignore.
            submitted = submission(data, _MOST_BYTES).submitted
        except WrongField as error:
            raise InvalidJob(str(error), field=error.field) from None
        except Malformed as error:
            raise InvalidJob(str(error)) from None
        entry: Fields = {
            "type": submitted.event_type,
            "source": self.source,
            "id": _attribute("id", id),
            "data": data,
        }
        if traceparent is not None:
            entry["traceparent"] = traceparent
        return self._topology.jobs_lane(submitted.urgency), entry

    async def _send(self, entries: list[tuple[str, Fields]]) -> None:
        """Have the server take them, in order; again as a whole where it is not known how many
        it took: they are the same events."""
        deadline, waits = time.monotonic() + self._patience, backoff(0.05, 2.0)
        while True:
            try:
                async with self._turn, self._redis.pipeline(transaction=False) as pipeline:
                    for stream, fields in entries:
                        pipeline.xadd(stream, fields)  # type: ignore[arg-type]
                    await pipeline.execute()
                    return
            except Refused as error:
                raise Forbidden(str(error)) from None
            except Exception as error:
                if not is_transient(error):
                    raise
                wait = next(waits)
                if time.monotonic() + wait > deadline:
                    raise Unavailable(
                        f"{shown(self._url)} does not take it ({error}); publishing it again is"
                        " safe where the id is the same"
                    ) from None
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _attribute(name: str, value: str) -> str:
    """`value`, if it can be a CloudEvents attribute. Raises InvalidRequest."""
    if not 1 <= len(value) <= _LONGEST or not value.isprintable():
        raise InvalidRequest(f"{name} is 1 to {_LONGEST} printable characters")
    return value
