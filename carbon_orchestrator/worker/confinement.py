"""What a command may not do: limits of its resources, a user of its own, no new privileges.

Limits are of each process (RLIMIT_*), and inherited by its children. They are set by util-linux'
`prlimit`, which then becomes the command: so they hold from its first instruction on, and it
takes a millisecond, for types with limits only. Setting them from outside, once the command
runs, would come too late for what it starts at once; code of ours in the forked child could
deadlock, as this process has threads.
"""

from __future__ import annotations

import ctypes
import grp
import math
import os
import pwd
import re
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from carbon_orchestrator.config import ConfigError, JobType
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.sizes import shown, size

log = structlog.get_logger(__name__)

_PR_SET_NO_NEW_PRIVS = 38
_TAIL = 4096  # characters of the output that may tell why it failed

_NO_MEMORY = re.compile(
    r"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|bad_alloc|[Mm]emory exhausted"
    r"|failed to map segment|std::length_error"
)
_NO_FILES = re.compile(r"[Tt]oo many open files")
_NO_PROCESSES = re.compile(
    r"[Rr]esource temporarily unavailable|can't start new thread|[Cc](?:annot|an't) fork"
)
_TOO_LARGE = re.compile(r"[Ff]ile too large|[Ff]ile size limit exceeded")


class Identity(msgspec.Struct, frozen=True):
    """The user that a command runs as, and all of its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """Limits in bytes, seconds of CPU time, and numbers; None where there is none."""

    memory: int | None = None
    cpu_time: int | None = None
    open_files: int | None = None
    processes: int | None = None
    file_size: int | None = None
    identity: Identity | None = None
    prlimit: str = ""  # the program, where there are limits

    @property
    def limited(self) -> bool:
        return bool(self.prlimit)

    @property
    def applied(self) -> tuple[str, ...]:
        """In words, such as "memory 512 MiB"."""
        found = {
            "memory": self.memory and shown(self.memory),
            "cpu_time": self.cpu_time and f"{self.cpu_time} s",
            "open_files": self.open_files,
            "processes": self.processes,
            "file_size": self.file_size and shown(self.file_size),
            "user": self.identity and self.identity.name,
        }
        return tuple(f"{name} {value}" for name, value in found.items() if value)

    def argv(self, argv: list[str]) -> list[str]:
        """The command line that runs `argv` under the limits."""
        if not self.limited:
            return argv
        options = {
            "as": self.memory,
            # One second after SIGXCPU, whoever does not die of that is killed.
            "cpu": self.cpu_time and f"{self.cpu_time}:{self.cpu_time + 1}",
            "nofile": self.open_files,
            "nproc": self.processes,
            "fsize": self.file_size,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value]
        return [self.prlimit, *given, "--", *argv]

    def explain(self, exit_code: int | None, cpu_s: float, output: Callable[[], str]) -> str | None:
        """Which limit a failed command ran into; None where none seems to be the cause.

        `cpu_s`: what it used, seconds; `output`: gives the tail of what it wrote.
        """
        if exit_code is None or exit_code == 0 or not self.limited:
            return None
        # A shell tells of a child killed by signal N with 128 + N.
        number = -exit_code if exit_code < 0 else exit_code - 128
        if self.cpu_time is not None and (
            number == signal.SIGXCPU or (number == signal.SIGKILL and cpu_s >= self.cpu_time * 0.95)
        ):
            return f"killed: over its cpu_time limit of {self.cpu_time} s"
        if self.file_size is not None and number == signal.SIGXFSZ:
            return f"killed: over its file_size limit of {shown(self.file_size)}"
        end = output()[-_TAIL:]
        died = number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
        suspects = (
            ("memory", self.memory and shown(self.memory), died or _NO_MEMORY.search(end)),
            ("open_files", self.open_files, _NO_FILES.search(end)),
            ("processes", self.processes, _NO_PROCESSES.search(end)),
            ("file_size", self.file_size and shown(self.file_size), _TOO_LARGE.search(end)),
        )
        for name, limit, sign in suspects:
            if limit and sign:
                how = f"exit code {exit_code}" if exit_code > 0 else f"killed by signal {number}"
                return f"over its {name} limit of {limit}, by all signs: {how}"
        return None


def confinement_of(where: str, job_type: JobType, directories: Path) -> Confinement | None:
    """What `job_type` asks for; None for nothing. `directories`: where jobs' directories are.

    ConfigError where this worker cannot give it: the message begins with `where`.
    """
    limits = job_type.limits
    identity = _identity(where, job_type, directories)
    if identity is None and limits.empty:
        return None
    program = ""
    if not limits.empty:
        program = shutil.which("prlimit") or ""
        if not program:
            raise ConfigError(f"{where}.limits: needs the program `prlimit` (util-linux)")
    confinement = Confinement(
        memory=None if limits.memory is None else size(limits.memory),
        cpu_time=None if limits.cpu_time is None else math.ceil(seconds(limits.cpu_time)),
        open_files=limits.open_files,
        processes=limits.processes,
        file_size=None if limits.file_size is None else size(limits.file_size),
        identity=identity,
        prlimit=program,
    )
    _check_hard_limits(where, confinement)
    return confinement


def _check_hard_limits(where: str, confinement: Confinement) -> None:
    """Only root may raise a limit above what this process has; `prlimit` runs as the user."""
    if os.geteuid() == 0 and (confinement.identity is None or confinement.identity.uid == 0):
        return
    for name, number in _NUMBERS.items():
        wanted, hard = getattr(confinement, name), resource.getrlimit(number)[1]
        if wanted is not None and hard != resource.RLIM_INFINITY and wanted > hard:
            raise ConfigError(f"{where}.limits.{name}: this worker itself is limited to {hard}")


_NUMBERS = {
    "memory": resource.RLIMIT_AS,
    "cpu_time": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "file_size": resource.RLIMIT_FSIZE,
}


def _identity(where: str, job_type: JobType, directories: Path) -> Identity | None:
    if job_type.user is None:
        return None
    try:
        entry = pwd.getpwnam(job_type.user)
    except KeyError:
        raise ConfigError(f"{where}.user: there is no user {job_type.user!r}") from None
    gid = entry.pw_gid
    if job_type.group is not None:
        try:
            gid = grp.getgrnam(job_type.group).gr_gid
        except KeyError:
            raise ConfigError(f"{where}.group: there is no group {job_type.group!r}") from None
    if os.geteuid() != 0:
        raise ConfigError(
            f"{where}.user: only a worker that root runs can run commands as"
            f" {job_type.user!r}; run a worker of this type as that user instead"
        )
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    identity = Identity(entry.pw_name, entry.pw_uid, gid, groups, entry.pw_dir)
    try:  # before it is looked at: made later, it might be our own only, by our umask
        directories.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{where}.user: cannot make {directories}: {error.strerror}") from None
    for folder in (directories, *directories.parents):
        if not _may_pass(identity, os.stat(folder)):
            raise ConfigError(
                f"{where}.user: {job_type.user!r} may not enter {folder}, above the jobs'"
                f" directories: chmod o+x {folder}, or name another place with --data"
            )
    return identity


def _may_pass(identity: Identity, found: os.stat_result) -> bool:
    if identity.uid == 0:
        return True
    if found.st_uid == identity.uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid in identity.groups:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def give_up_privileges() -> None:
    """This process and all that it starts gain no rights by what they execute (set-user-ID,
    file capabilities), and leave no memory behind in core files. Call it before any thread."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:  # an old kernel, a sandbox
        log.warning("privileges.kept", error=os.strerror(ctypes.get_errno()))
