"""The directory of one deployment on one machine, used by one `up` at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import anyio

_PATIENCE_SECONDS = 15.0


class DataDirError(Exception):
    """The directory cannot be used; the message says why."""


def default_data_dir() -> Path:
    """$CARBON_DATA_DIR, else the user's data directory."""
    if given := os.environ.get("CARBON_DATA_DIR"):
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "carbon-orchestrator"


class DataDir:
    """A locked data directory. The lock's descriptor is handed to the bundled server, so
    that the directory is free only when that has ended too."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = -1

    @property
    def lock_fd(self) -> int:
        return self._lock

    @property
    def redis_url_file(self) -> Path:
        return self.path / "redis-url"

    def note_redis_url(self, url: str) -> None:
        """Say where the server is, password and all, to this user alone. OSError."""
        self.redis_url_file.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(self.redis_url_file, flags, 0o600), "w") as file:
            file.write(url)

    async def lock(self) -> None:
        """Take it, waiting for a bundled server that is still ending. Raises DataDirError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataDirError(f"{self.path}: {error.strerror}") from None
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                owner = self._owner()
                if owner is not None or time.monotonic() > deadline:
                    who = f"process {owner}" if owner else "a server that does not end"
                    os.close(self._lock)
                    raise DataDirError(
                        f"{self.path} is in use by {who}; stop that, or name another with --data"
                    ) from None
                await anyio.sleep(0.05)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _owner(self) -> int | None:
        """The living process that locked it, if it is not only its server that still ends."""
        try:
            pid = int(os.pread(self._lock, 32, 0) or b"0")
            os.kill(pid, 0)
        except (ValueError, ProcessLookupError):
            return None
        except PermissionError:
            return pid
        return pid if pid > 0 else None

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
