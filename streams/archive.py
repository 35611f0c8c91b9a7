"""The archive: what was trimmed off the streams, in compressed files of lines.

`DIRECTORY/NAMESPACE.PARTITION/STREAM/TIME_AFTER_LAST_ENTRIES.jsonl.gz`: the entries of the stream
after the id AFTER up to LAST, so many, the first of them added at TIME; so the names tell whether
a file is missing. Lines are as `lines.py` has them. Beside each file its SHA-256, as `sha256sum -c`
reads it. A file is there whole or not at all. All of this blocks: call it on a thread.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import re
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from streams.errors import StreamsError
from streams.event import entry_order
from streams.keys import Partition
from streams.lines import LineError, RawEntry, entries, lines_of, rfc3339

#: A file that has reached either is ended.
FILE_ENTRIES = 100_000
FILE_BYTES = 64 << 20  # uncompressed

_SUFFIX = ".jsonl.gz"
_CHECKSUM = ".sha256"
_TEMPORARY = ".tmp"
#: Of complete files that are no part of this stream's past: kept, but out of the way.
_ASIDE = ".aside"
_PAGE_ENTRIES = 1000
_PAGE_BYTES = 1 << 20
_NAME = re.compile(r"[0-9TZ.-]+_(\d+-\d+)_(\d+-\d+)_(\d+)\.jsonl\.gz")


class ArchiveError(StreamsError):
    """The archive is not as it was written; the message names the file."""

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class ArchiveFile(msgspec.Struct, frozen=True):
    """One file: the entries of `stream` after `after` up to `last`."""

    path: Path
    stream: str
    after: str
    last: str
    entries: int

    @property
    def checksum(self) -> Path:
        return self.path.with_name(self.path.name + _CHECKSUM)


class Archive:
    """One partition's archive under `directory`, which is made when something is written."""

    def __init__(self, directory: Path, partition: Partition) -> None:
        self.root = directory / f"{partition.namespace}.{partition.number}"

    def streams(self) -> list[str]:
        """The names of the streams that have files."""
        if not self.root.is_dir():
            return []
        names = sorted(path.name for path in self.root.iterdir() if path.is_dir())
        return [name for name in names if self.files(name)]

    def files(self, stream: str) -> list[ArchiveFile]:
        """All complete files of a stream, in order."""
        found = []
        with suppress(FileNotFoundError):
            for path in (self.root / stream).iterdir():
                if match := _NAME.fullmatch(path.name):
                    after, last, count = match.groups()
                    found.append(ArchiveFile(path, stream, after, last, int(count)))
        return sorted(found, key=lambda each: (entry_order(each.last), entry_order(each.after)))

    def covering(self, stream: str, after: str, until: str | None) -> list[ArchiveFile]:
        """The files that hold what came after the id `after`, up to the end of the file that ends
        at `until` (None: of them all). Raises ArchiveError where they are not all there."""
        start, end = entry_order(after), entry_order(until) if until else None
        chosen: list[ArchiveFile] = []
        position = after
        for each in self.files(stream):
            last = entry_order(each.last)
            if last <= start or (end is not None and last > end):
                continue
            begins = entry_order(each.after)
            if begins > entry_order(position) or (chosen and begins != entry_order(position)):
                raise ArchiveError(
                    f"{each.path} begins after {each.after}, but the archive of {stream} before it"
                    f" ends at {position}: a file is missing, or one too many",
                    each.path,
                )
            chosen.append(each)
            position = each.last
        if end is not None and entry_order(position) < end:
            raise ArchiveError(
                f"{self.root / stream} ends at {position}, but entries up to {until} were archived:"
                " a file is missing, or this is another archive",
                self.root / stream,
            )
        return chosen

    def pages(self, file: ArchiveFile) -> Iterator[list[RawEntry]]:
        """The entries of a file, some at a time. Raises ArchiveError for a file that differs from
        its checksum, its name or the form that lines have, and OSError."""
        content = self.verified(file)
        page: list[RawEntry] = []
        size = count = 0
        last = file.after
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as lines:
                for entry in entries(file.stream, lines):
                    if not count and file.path.name != _name(file, entry[0]):
                        raise LineError(f"its first entry is {entry[0]}")
                    count += 1
                    last = entry[0]
                    page.append(entry)
                    size += sum(map(len, entry[1]))
                    if len(page) >= _PAGE_ENTRIES or size >= _PAGE_BYTES:
                        yield page
                        page, size = [], 0
        except (LineError, EOFError, OSError, zlib.error) as error:
            raise ArchiveError(f"{file.path}: {error}", file.path) from None
        if (last, count) != (file.last, file.entries):
            message = f"{file.path}: holds {count} entries up to {last}, not what its name says"
            raise ArchiveError(message, file.path)
        if page:
            yield page

    def verified(self, file: ArchiveFile) -> bytes:
        """A file's content as it is on disk. Raises ArchiveError where its checksum is missing or
        another one."""
        try:
            stated = file.checksum.read_text("ascii", "replace")
        except FileNotFoundError:
            raise ArchiveError(
                f"{file.path}: there is no {file.checksum.name}", file.path
            ) from None
        content = file.path.read_bytes()
        if stated != _checksum_line(hashlib.sha256(content).hexdigest(), file.path.name):
            message = f"{file.path}: its SHA-256 is not the one in {file.checksum.name}"
            raise ArchiveError(message, file.path)
        return content

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Be the one that writes here, if nobody else is; says whether so."""
        self.root.mkdir(0o700, parents=True, exist_ok=True)  # events may hold what is private
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def sweep(self, stream: str) -> None:
        """Remove what a writer that was killed left half done."""
        with suppress(FileNotFoundError):
            for path in (self.root / stream).iterdir():
                stray = path.name.endswith(_CHECKSUM) and not path.with_suffix("").exists()
                if stray or (path.name.startswith(".") and path.name.endswith(_TEMPORARY)):
                    path.unlink()

    def discard(self, file: ArchiveFile) -> None:
        """Remove a file that was never said to be archived."""
        file.checksum.unlink(missing_ok=True)
        file.path.unlink()

    def set_aside(self, file: ArchiveFile) -> Path:
        """Give a file a name by which it is no part of the archive; returns that."""
        for path in (file.checksum, file.path):
            path.rename(path.with_name(f"{path.name}{_ASIDE}"))
        return file.path.with_name(f"{file.path.name}{_ASIDE}")

    def writer(self, stream: str, after: str) -> Writer:
        """A new file for what comes after the id `after`."""
        return Writer(self.root / stream, stream, after)


class Writer:
    """One file in the making; `finish` or `abandon` it. Raises OSError."""

    def __init__(self, folder: Path, stream: str, after: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._stream = stream
        self._after = after
        self._first = self._last = ""
        self.entries = 0
        self.bytes = 0
        self._path = folder / f".{uuid.uuid4().hex}{_TEMPORARY}"
        self._file = _Hashing(self._path)
        try:
            # Without a time of its own in it, a file depends on its entries alone.
            self._gzip = gzip.GzipFile("", "wb", 6, self._file, mtime=0)
        except OSError:  # it has a header
            self._file.discard()
            self._path.unlink()
            raise

    @property
    def full(self) -> bool:
        return self.entries >= FILE_ENTRIES or self.bytes >= FILE_BYTES

    def add(self, page: Sequence[RawEntry]) -> None:
        """Append entries."""
        for entry_id, fields in page:
            text = b"\n".join([*lines_of(self._stream, entry_id, fields), b""])
            self._gzip.write(text)
            self.bytes += len(text)
            self.entries += 1
            self._first = self._first or entry_id
            self._last = entry_id

    def finish(self) -> ArchiveFile:
        """Put the file in its place, then its checksum; both are on disk when this returns."""
        self._gzip.close()
        self._file.close()
        file = ArchiveFile(self._folder, self._stream, self._after, self._last, self.entries)
        path = self._folder / _name(file, self._first)
        file = msgspec.structs.replace(file, path=path)
        os.replace(self._path, path)
        _sync_folder(self._folder)
        with self._path.open("w") as checksum:
            checksum.write(_checksum_line(self._file.digest.hexdigest(), path.name))
            checksum.flush()
            os.fsync(checksum.fileno())
        os.replace(self._path, file.checksum)
        _sync_folder(self._folder)
        return file

    def abandon(self) -> None:
        """Remove what there is of it, after an error or at a stop; harmless after `finish`."""
        with suppress(OSError, ValueError):
            self._gzip.close()
        self._file.discard()
        self._path.unlink(missing_ok=True)


class _Hashing(io.RawIOBase):
    """A new file that is hashed as it is written, and on disk once it is closed."""

    def __init__(self, path: Path) -> None:
        self.digest = hashlib.sha256()
        self._file: IO[bytes] = path.open("xb")

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        return self._file.write(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close it, whatever becomes of it."""
        super().close()
        with suppress(OSError):
            self._file.close()


def _name(file: ArchiveFile, first: str) -> str:
    day = rfc3339(first).replace(":", "")
    return f"{day}_{file.after}_{file.last}_{file.entries}{_SUFFIX}"


def _checksum_line(digest: str, name: str) -> str:
    return f"{digest}  {name}\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
