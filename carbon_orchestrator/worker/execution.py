"""Running attempts of jobs on this worker, whatever their handler, and measuring them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog

from carbon_orchestrator.config import Config, ConfigError, JobType, command_line
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Pool, Spec
from carbon_orchestrator.kubernetes import job_template
from carbon_orchestrator.kubernetes.cluster import Cluster
from carbon_orchestrator.worker.attempt import Ended, Halt
from carbon_orchestrator.worker.callable import PythonHandler, one_line
from carbon_orchestrator.worker.command import base_environment, run_command
from carbon_orchestrator.worker.confinement import Confinement, confinement_of
from carbon_orchestrator.worker.context import JobContext
from carbon_orchestrator.worker.energy import Energy, EnergyMeter
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.pod import run_pod
from carbon_orchestrator.worker.telling import Telling

log = structlog.get_logger(__name__)

Outcome = Literal["completed", "failed", "cancelled", "suspended", "timeout", "interrupted"]

_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_GPUS_UNSEEN = ("GPUs of its pod not measured",)
_REFRESH = 60.0  # seconds; energy counters wrap after many minutes at the soonest


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt went, and what it burnt."""

    outcome: Outcome
    exit_code: int | None = None  # of a command; -N: killed by signal N
    error: str | None = None  # one line for a person; None when completed
    output: str = ""  # tail of stdout and stderr, or of a callable's log and result
    output_bytes: int = 0  # all that was written
    run_ms: int  # wall time
    cpu_ms: float  # CPU time of everything that ran for it
    energy: Energy
    applied: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()


class Interrupted(asyncio.CancelledError):
    """`run` was cancelled; `execution` says how the attempt ended and what it burnt."""

    def __init__(self, execution: Execution) -> None:
        super().__init__("interrupted")
        self.execution = execution


class _Type(msgspec.Struct, frozen=True):
    """A job type, resolved: `argv`, `handler` or `template`."""

    timeout: float
    grace: float
    gpus: tuple[int, ...]
    environment: dict[str, str]
    argv: list[str]
    handler: PythonHandler | None
    template: job_template.Template | None
    limitations: tuple[str, ...]
    confinement: Confinement | None


def meter_of(config: Config) -> EnergyMeter:
    """A meter for every GPU that the job types name. One a process: two would both count what
    their jobs share."""
    gpus = {gpu for job_type in config.types.values() for gpu in job_type.gpus}
    return EnergyMeter(config.power, gpus)


class Executor:
    """Runs attempts of `config`'s job types on one pool.

    Resolves every type at once: ConfigError where a handler cannot be found. The guardian is
    the process's own. Job directories are made under data_dir/checkpoints.
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        guardian: Guardian,
        data_dir: Path,
        meter: EnergyMeter | None = None,
    ) -> None:
        self._pool: Pool = pool
        self._placement = config.pools[pool]
        self._guardian = guardian
        self._directories = (data_dir / "checkpoints").absolute()
        self._tail = config.limits.output_tail
        self.meter = meter if meter is not None else meter_of(config)
        self.deployment = config.namespace
        self._types = {name: self._resolve(name, kind) for name, kind in config.types.items()}
        in_pods = any(kind.template is not None for kind in self._types.values())
        self.cluster = Cluster.configured(config.kubernetes) if in_pods else None
        self._running = 0
        self._refresh: asyncio.TimerHandle | None = None
        log.info(
            "executor.ready", pool=pool, types=sorted(self._types), energy=self.meter.statement
        )

    def _resolve(self, name: str, job_type: JobType) -> _Type:
        handler: PythonHandler | None = None
        template: job_template.Template | None = None
        argv: list[str] = []
        if job_type.python is not None:
            placement = self._placement
            try:
                handler = PythonHandler(
                    job_type.python, placement.nice, placement.cpus, placement.slots
                )
            except ConfigError as error:
                raise ConfigError(f"types.{name}.python: {error}") from error
        elif job_type.kubernetes is not None:
            try:
                template = job_template.load(Path(job_type.kubernetes))
            except ConfigError as error:
                raise ConfigError(f"types.{name}.kubernetes: {error}") from None
        else:
            argv = command_line(job_type)
        confinement = confinement_of(f"types.{name}", job_type, self._directories)
        own: dict[str, str] = {}
        if confinement is not None and (identity := confinement.identity) is not None:
            own = {"HOME": identity.home, "USER": identity.name, "LOGNAME": identity.name}
        inherited = {} if template is not None else base_environment(os.environ)
        return _Type(
            seconds(job_type.timeout),
            seconds(job_type.grace),
            tuple(job_type.gpus),
            {**inherited, **own, **job_type.env},
            argv,
            handler,
            template,
            _GPUS_UNSEEN
            if template is not None and template.gpus
            else (self.meter.limitations(job_type.gpus)),
            confinement,
        )

    @property
    def root(self) -> str:
        """Where the jobs' directories are."""
        return str(self._directories)

    def directory(self, job_id: str) -> Path:
        """The job's own directory: checkpoints, and where its commands run."""
        return Path(self._path(job_id))

    def _path(self, job_id: str) -> str:
        # A job's id may come from outside, so it is not taken as a path unseen.
        plain = _PLAIN_ID.fullmatch(job_id) is not None
        name = job_id if plain else "x-" + hashlib.sha256(job_id.encode()).hexdigest()
        return f"{self._directories}/{name}"

    async def run(
        self, spec: Spec, attempt: int, fence: str, halt: Halt, telling: Telling | None = None
    ) -> Execution:
        """Run one attempt to its end; never raises for the job's faults. `telling` gets what it
        writes and reports.

        It ends early, with the type's grace, when `halt` is set or its timeout has passed; one
        that is to be suspended and reaches its own end within the grace is completed.
        Cancelling the caller ends it too, and raises Interrupted (a CancelledError).
        """
        kind = self._types.get(spec.type)
        telling = Telling(OutputTail(self._tail)) if telling is None else telling
        output = telling.output
        began = time.monotonic()
        if kind is None:
            ended = Ended(error=f"this worker has no job type {spec.type!r}")
            return _execution(ended, "failed", "", output, began, self.meter.end(None, 0.0), ())
        reading = self.meter.begin(kind.gpus)
        self._enter()
        try:
            if kind.template is not None:
                ended = await self._pod(kind, kind.template, spec, attempt, fence, halt, telling)
            elif kind.handler is not None:
                ended = await self._call(kind, kind.handler, spec, attempt, fence, halt, telling)
            else:
                ended = await self._command(kind, spec, attempt, fence, halt, telling)
        except Exception as error:  # ours, not the job's; the worker goes on all the same
            log.exception("execution.broken", job_id=spec.job_id, attempt=attempt)
            ended = Ended(error=f"internal error: {one_line(error)}")
        finally:
            self._leave()
        energy = self.meter.end(reading, ended.cpu_ms)
        if kind.template is not None:  # it ran elsewhere
            energy = self.meter.requested(ended.reserved_ms, kind.template.gpus)
        outcome, why = _outcome(ended, halt)
        if outcome == "timeout":
            why = f"timed out after {kind.timeout if spec.timeout is None else spec.timeout:g} s"
        execution = _execution(ended, outcome, why, output, began, energy, kind.limitations)
        if ended.stopped == "interrupted":
            raise Interrupted(execution)
        return execution

    async def discard(self, job_id: str) -> None:
        """Remove the directory of a job that is over. Never raises: at worst it stays."""
        directory = self._path(job_id)
        try:
            os.rmdir(directory)  # most jobs have none, or leave nothing in it
        except FileNotFoundError:
            return
        except OSError:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def aclose(self) -> None:
        """When nothing runs any more."""
        if self.cluster is not None:
            await self.cluster.aclose()

    async def _command(
        self,
        kind: _Type,
        spec: Spec,
        attempt: int,
        fence: str,
        halt: Halt,
        telling: Telling,
    ) -> Ended:
        directory = self.directory(spec.job_id)
        try:
            directory.mkdir(0o700, parents=True, exist_ok=True)
            if kind.confinement is not None and (owner := kind.confinement.identity) is not None:
                os.chown(directory, owner.uid, owner.gid)
        except OSError as error:
            return Ended(error=f"cannot make the job's directory: {error}")
        environment = {
            **self._environment(kind, spec, attempt, fence),
            "CARBON_CHECKPOINT_DIR": str(directory),
        }
        return await run_command(
            kind.argv,
            bytes(spec.payload),
            telling.output,
            self._guardian,
            cwd=directory,
            environment=environment,
            nice=self._placement.nice,
            cpus=self._placement.cpus,
            timeout=kind.timeout if spec.timeout is None else spec.timeout,
            grace=kind.grace,
            cancel=halt,
            confinement=kind.confinement,
            report=telling.report,
        )

    async def _pod(
        self,
        kind: _Type,
        template: job_template.Template,
        spec: Spec,
        attempt: int,
        fence: str,
        halt: Halt,
        telling: Telling,
    ) -> Ended:
        assert self.cluster is not None
        return await run_pod(
            self.cluster,
            template,
            job_template.Attempt(
                job_id=spec.job_id,
                number=attempt,
                type=spec.type,
                pool=self._pool,
                project=spec.project,
                deployment=self.deployment,
                timeout=kind.timeout if spec.timeout is None else spec.timeout,
                grace=kind.grace,
                environment=self._environment(kind, spec, attempt, fence),
            ),
            bytes(spec.payload),
            telling.output,
            cancel=halt,
            report=telling.report,
        )

    def _environment(self, kind: _Type, spec: Spec, attempt: int, fence: str) -> dict[str, str]:
        environment = {
            **kind.environment,
            "CARBON_JOB_ID": spec.job_id,
            "CARBON_ATTEMPT": str(attempt),
            "CARBON_POOL": self._pool,
            "CARBON_FENCE": fence,
        }
        if spec.traceparent is not None:
            environment["TRACEPARENT"] = spec.traceparent
        return environment

    async def _call(
        self,
        kind: _Type,
        handler: PythonHandler,
        spec: Spec,
        attempt: int,
        fence: str,
        halt: Halt,
        telling: Telling,
    ) -> Ended:
        try:
            payload: dict[str, Any] = _decode_object(spec.payload)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return Ended(error=f"the payload is not a JSON object: {error}")
        context = JobContext(
            spec.job_id,
            attempt,
            self._pool,
            fence,
            self.directory,
            telling.output,
            halt.suspending,
            telling.report,
        )
        return await handler.run(
            payload,
            context,
            telling.output,
            timeout=kind.timeout if spec.timeout is None else spec.timeout,
            grace=kind.grace,
            cancel=halt,
        )

    def _enter(self) -> None:
        self._running += 1
        if self._refresh is None and self.meter.wraps:
            self._keep_fresh()

    def _leave(self) -> None:
        self._running -= 1
        if self._running == 0 and self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None

    def _keep_fresh(self) -> None:
        self.meter.refresh()
        self._refresh = asyncio.get_running_loop().call_later(_REFRESH, self._keep_fresh)


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def _outcome(ended: Ended, halt: Halt) -> tuple[Outcome, str]:
    """The outcome, and what stopped the attempt, if something did and it matters."""
    if ended.stopped is None:
        return ("completed" if ended.error is None else "failed"), ""
    if ended.stopped != "cancelled":
        return ended.stopped, ended.stopped
    if halt.reason == "suspended":
        # However it took the request, it goes on later from its latest checkpoint.
        return ("completed" if ended.done else "suspended"), ""
    return halt.reason, halt.reason


def _execution(
    ended: Ended,
    outcome: Outcome,
    why: str,
    output: OutputTail,
    began: float,
    energy: Energy,
    limitations: tuple[str, ...],
) -> Execution:
    """`why`: what stopped it, if something did; it goes before what came of that."""
    error = ended.error
    if why:
        # A command's exit code after our own signal tells nothing more.
        error = f"{why}; {error}" if error is not None and ended.exit_code is None else why
    return Execution(
        outcome=outcome,
        exit_code=ended.exit_code,
        error=error,
        output=output.text(),
        output_bytes=output.total,
        run_ms=round((time.monotonic() - began) * 1000),
        cpu_ms=ended.cpu_ms,
        energy=energy,
        applied=ended.applied,
        limitations=ended.limitations + limitations,
    )
