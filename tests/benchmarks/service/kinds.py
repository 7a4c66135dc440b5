"""Who serves event streams here, in the order of the page."""

from __future__ import annotations

NAMES = {
    "floor": "uvicorn alone, a bare ASGI application",
    "ours": "ours",
    "fastapi": "FastAPI's own server-sent events",
    "sse-starlette": "sse-starlette under FastAPI",
}
KINDS = tuple(NAMES)
