"""The button's files, as they are served: the module with its hash in its name and in its snippet.

A page that names the hash (subresource integrity) runs these bytes or none; whoever upgrades the
service puts the new snippet in.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file's bytes, its media type, and the name that no other bytes will ever have."""

    content: bytes
    media_type: str
    hashed_name: str

    @property
    def integrity(self) -> str:
        """What a page's ``integrity`` attribute must say."""
        return "sha384-" + base64.b64encode(hashlib.sha384(self.content).digest()).decode()

    @property
    def etag(self) -> str:
        """An entity tag."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


@cache
def module() -> Asset:
    """The web component."""
    return _read("relaunch-button.js", "text/javascript; charset=utf-8")


@cache
def style() -> Asset:
    """Its style sheet, which it loads from beside itself."""
    return _read("relaunch-button.css", "text/css; charset=utf-8")


@cache
def texts() -> dict[str, Asset]:
    """Its texts by language."""
    folder = files(__package__).joinpath("texts")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {
        name.removesuffix(".json"): _read(f"texts/{name}", "application/json") for name in names
    }


def snippet(public_url: str) -> str:
    """The lines to put into a course page."""
    script = f"{public_url}/button/{module().hashed_name}"
    return (
        f'<script type="module" src="{escape(script)}"\n'
        f'        integrity="{module().integrity}" crossorigin="anonymous"></script>\n'
        '<relaunch-button lab="1001" token-url="/lab-token">\n'
        "  The relaunch button is loading. If it stays so, reload the page.\n"
        "</relaunch-button>\n"
    )


def _read(path: str, media_type: str) -> Asset:
    content = files(__package__).joinpath(path).read_bytes()
    stem, _, ending = path.rpartition("/")[2].rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(content=content, media_type=media_type, hashed_name=f"{stem}.{digest}.{ending}")
