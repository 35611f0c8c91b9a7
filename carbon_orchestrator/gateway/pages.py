"""The dashboard's files over HTTP: pages under a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from carbon_orchestrator import dashboard
from carbon_orchestrator.gateway.door.negotiation import matches, takes_gzip
from carbon_orchestrator.gateway.problems import problem

_ROOT = Path(dashboard.__file__).parent
#: What may be asked for: the folders by name, and what kinds of files there are in them.
_FOLDERS = {
    "js": _ROOT / "assets" / "js",
    "css": _ROOT / "assets" / "css",
    "img": _ROOT / "assets" / "img",
    "vendor": _ROOT / "vendor",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_NAME = re.compile(r"\w[\w.-]{0,63}", re.ASCII)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    # Asked again each time, and answered 304: pages and scripts of two versions never mix.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def wants_page(request: web.Request) -> bool:
    """Whether a browser asks: what takes anything, or asks for JSON, is a program."""
    return "text/html" in request.headers.get("Accept", "").lower()


async def page(request: web.Request, name: str) -> web.Response:
    """A page of ours, such as index.html."""
    return await _answer(request, _ROOT / "assets" / name, {"Vary": "Accept, Accept-Encoding"})


async def docs(request: web.Request) -> web.StreamResponse:
    """The HTTP API, to read and try out."""
    return await page(request, "docs.html")


async def asset(request: web.Request) -> web.StreamResponse:
    """A script, style or picture."""
    folder, name = _FOLDERS.get(request.match_info["folder"]), request.match_info["name"]
    path = folder / name if folder is not None and _NAME.fullmatch(name) else None
    if path is None or path.suffix not in _TYPES or not path.is_file():
        return problem(404, "not-found", f"there is no {request.path}")
    return await _answer(request, path, {"Vary": "Accept-Encoding"})


class _File(NamedTuple):
    modified: int
    body: bytes
    packed: bytes
    tag: str


#: What was asked for so far, as it was. A page asks for two dozen at once, and reading each on a
#: thread takes longer than all else that it shows.
_files: dict[Path, _File] = {}


def _read(path: Path) -> _File:
    modified, body = path.stat().st_mtime_ns, path.read_bytes()
    # Weak, for it stays the same when the body is compressed.
    tag = f'W/"{sha256(body, usedforsecurity=False).hexdigest()[:18]}"'
    return _File(modified, body, gzip.compress(body, mtime=0), tag)


def _known(path: Path) -> _File | None:
    file = _files.get(path)
    return file if file is not None and file.modified == path.stat().st_mtime_ns else None


async def _answer(request: web.Request, path: Path, more: Mapping[str, str]) -> web.Response:
    file = _known(path)
    if file is None:
        file = _files[path] = await asyncio.to_thread(_read, path)
    headers = {**HEADERS, **more, "ETag": file.tag}
    if matches(request.headers.get("If-None-Match", ""), file.tag):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = _TYPES[path.suffix]
    body = file.body
    if len(file.packed) < len(body) and takes_gzip(request.headers.get("Accept-Encoding", "")):
        body, headers["Content-Encoding"] = file.packed, "gzip"
    return web.Response(body=body, headers=headers)
