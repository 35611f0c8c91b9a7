"""The record of all events: sealed as it grows, archived when it is old, then trimmed."""

from __future__ import annotations

from pathlib import Path

import anyio
import structlog

from carbon_orchestrator.accounting.rounds import rounds
from carbon_orchestrator.config import Config
from carbon_orchestrator.data_dir import default_data_dir
from carbon_orchestrator.durations import milliseconds, seconds
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import Topology
from streams.archive import Archive, ArchiveError
from streams.archiver import Archiver, Keep
from streams.sealing import Sealer

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 30.0
#: Intensities are history too: forecasters and baselines look back, in grid time. Figures are
#: worked out again by those of KEPT_MS (signal/intensities.py), so less may not stay.
_INTENSITY_MS = 45 * 86_400_000
_INTENSITY_ENTRIES = 200_000


def archive_directory(config: Config, data: Path | None = None) -> Path:
    """Where the archive is: as configured, else in the data directory."""
    given = config.archive.directory
    return Path(given) if given else (data or default_data_dir()) / "archive"


def kept_live(topology: Topology, config: Config, speed: float = 1.0) -> dict[str, Keep]:
    """What stays live of each stream, by its name; the others stay whole: dead letters go when an
    operator says so. `speed`: of the grid clock."""
    keeps = {}
    for stream in topology.streams:
        groups = tuple(name for name, lanes in topology.groups.items() if stream in lanes)
        keep = Keep(milliseconds(config.retention.streams), config.retention.max_entries, groups)
        if stream == topology.intensity:
            keep = Keep(round(_INTENSITY_MS / speed), _INTENSITY_ENTRIES, groups)
        if stream != topology.dead_letters:
            keeps[topology.partition.name(stream)] = keep
    return keeps


class RecordKeeping:
    """Any number may run at once, if they share the archive's directory."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        topology = runtime.topology
        self._stop = runtime.stop
        self._seal_seconds = seconds(runtime.config.archive.seal_every)
        self._runtime = runtime
        names = [topology.partition.name(stream) for stream in topology.streams]
        self._sealer = Sealer(runtime.connect(), runtime.committer(), names)
        archive = Archive(directory, topology.partition)
        self._archiver = Archiver(runtime.connect(), archive, topology.partition)
        self._directory = archive.root
        self._told: tuple[str, int | None] | None = None

    async def run(self) -> None:
        """Seal and archive until stopped."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rounds, self._stop, self._seal_seconds, "sealing", self.seal)
            tasks.start_soon(rounds, self._stop, _PAUSE_SECONDS, "archiving", self.archive)

    async def seal(self) -> None:
        """Seal all that is there now, or until the stop: the first time it may be very much."""
        with self._stop.cut():
            await self._sealer.seal()

    async def archive(self) -> None:
        """Archive and trim all streams once. Where the archive cannot be written, nothing is
        trimmed, and that is said once, not at every round."""
        failure: OSError | ArchiveError | None = None
        runtime = self._runtime
        keeps = kept_live(runtime.topology, runtime.config, runtime.clock.speed)
        for name, keep in keeps.items():
            try:
                with self._stop.cut():
                    await self._archiver.keep(name, keep)
                if self._stop.is_set():
                    return
            except (OSError, ArchiveError) as error:
                if isinstance(error, ConnectionError | TimeoutError):
                    raise  # the server's, not the archive's
                failure = failure or error
        kind = (type(failure).__name__, getattr(failure, "errno", None)) if failure else None
        if kind != self._told:
            self._told = kind
            if failure is None:
                log.info("archiving works again", archive=str(self._directory))
            else:
                log.error(
                    "nothing is archived from here, so nothing is trimmed: streams grow",
                    archive=str(self._directory),
                    error=str(failure),
                )
