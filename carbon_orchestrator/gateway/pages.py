"""The dashboard's files over HTTP: pages under a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from carbon_orchestrator import dashboard
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


def page(name: str) -> web.StreamResponse:
    """A page of ours, such as index.html."""
    return _file(_ROOT / "assets" / name, {"Vary": "Accept"})


async def docs(request: web.Request) -> web.StreamResponse:
    """The HTTP API, to read and try out."""
    return page("docs.html")


async def asset(request: web.Request) -> web.StreamResponse:
    """A script, style or picture."""
    folder, name = _FOLDERS.get(request.match_info["folder"]), request.match_info["name"]
    path = folder / name if folder is not None and _NAME.fullmatch(name) else None
    if path is None or path.suffix not in _TYPES or not path.is_file():
        return problem(404, "not-found", f"there is no {request.path}")
    return _file(path)


def _file(path: Path, more: Mapping[str, str] = {}) -> web.StreamResponse:
    headers = {**HEADERS, "Content-Type": _TYPES[path.suffix], **more}
    return web.FileResponse(path, headers=headers)
