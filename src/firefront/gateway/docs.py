"""/docs: our own page over /openapi.json. No file of it comes from anywhere but this package."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

router = APIRouter(include_in_schema=False)
STATIC = Path(__file__).with_name("static")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/docs": ("docs.html", "text/html"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
    "/docs/docs.css": ("docs.css", "text/css"),
}


def _serve(path: str, file: str, media_type: str) -> None:
    async def serve() -> Response:
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return FileResponse(STATIC / file, media_type=media_type, headers=headers)

    router.add_api_route(path, serve, methods=["GET"])


for _path, (_file, _media_type) in _FILES.items():
    _serve(_path, _file, _media_type)
