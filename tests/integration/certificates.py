"""Certificates made for a test, and a proxy that speaks TLS for a server that cannot."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from streams.testing import until


def make_authority(folder: Path, name: str) -> Path:
    """A certificate that may sign others, and its key beside it."""
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={name}", "-days", "2", "-keyout", str(folder / f"{name}.key")),
        *("-out", str(folder / f"{name}.pem")),
    )
    return folder / f"{name}.pem"


def make_certificate(folder: Path, name: str, authority: Path, host: str) -> Path:
    """A certificate for `host` (an address), signed by `authority`, and its key beside it."""
    request, found = folder / f"{name}.csr", folder / f"{name}.pem"
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", str(folder / f"{name}.key"), "-out", str(request)),
    )
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName=IP:{host}\n")
    _openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(authority), "-days", "2"),
        *("-CAkey", str(authority.with_suffix(".key")), "-CAcreateserial"),
        *("-extfile", str(extensions), "-out", str(found)),
    )
    return found


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@asynccontextmanager
async def tls_in_front(
    port: int, certificate: Path, clients_by: Path | None = None
) -> AsyncIterator[int]:
    """A port where TLS is spoken for the server at `port`; clients need a
    certificate signed by `clients_by`, if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if clients_by is not None:
        context.load_verify_locations(clients_by)
        context.verify_mode = ssl.CERT_REQUIRED
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        writers = [writer]
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(back_writer)
            await asyncio.gather(_pump(reader, back_writer), _pump(back_reader, writer))
        finally:
            serving.discard(task)
            for each in writers:
                each.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    loop = asyncio.get_running_loop()
    # Those that break off the handshake, as they are meant to, are no news.
    loop.set_exception_handler(lambda _loop, _context: None)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()

        def over() -> bool:
            for task in serving:  # a handshake that was under way may bring a further one
                task.cancel()
            return not getattr(server, "_active_count", 0)

        await until(over)
        loop.set_exception_handler(None)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
