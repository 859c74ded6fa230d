"""The pages for people: `/`, from the files of `service/page`, and `/docs`, from those of Swagger UI."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent.parent / "page"
_FILES = StaticFiles(directory=_FOLDER)
_DOCS_FILES = "docs/files"
_HEADERS = {
    # The page runs and asks only what lies beside it; the video that it plays is on the viewer's own disk.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    # Browsers ask again each time and get 304, so that after an update all files are of one version.
    "Cache-Control": "no-cache",
}
PAGE_PATHS = frozenset({"/", *(f"/page/{file.name}" for file in _FOLDER.iterdir())})

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


def install_docs(app: FastAPI) -> None:
    """Serves Swagger UI at /docs, with nothing loaded from elsewhere."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=f"{_DOCS_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{_DOCS_FILES}/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    page.headers["Content-Security-Policy"] = _docs_policy(bytes(page.body).decode())
    app.mount(f"/{_DOCS_FILES}", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs")

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> Response:
        return page


def _docs_policy(page: str) -> str:
    """Lets the page run its own script and no other, and reach nothing but this service."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in hashes)])
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'"
    )
