"""The page for people: files of `service/page`, served as they lie there."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent.parent / "page"
_FILES = StaticFiles(directory=_FOLDER)
_HEADERS = {
    # Only what lies beside the page runs or is asked; the video that is played comes from the viewer's own disk.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    # Asked again each time, and answered 304: after an update no file of the page is older than another.
    "Cache-Control": "no-cache",
}

PAGE_PATHS = frozenset({"/", *(f"/page/{file.name}" for file in _FOLDER.iterdir())})
"""Where the page and its files are."""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def get_page(request: Request) -> Response:
    """The page itself."""
    return await _file("index.html", request)


@router.get("/page/{name}")
async def get_page_file(request: Request, name: str) -> Response:
    """A script, the style or the icon of the page."""
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    response = await _FILES.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response
