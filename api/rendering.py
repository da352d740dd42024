"""Templates made into answers. Whatever a producer sent is escaped by the templates and runs nowhere by the policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from fastapi.responses import HTMLResponse

from api import human
from api.progress_bar import stripes, tried

#: Own files alone: no inline script or style, no frame, no form to elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

ASSET_TYPES = {"icon.svg": "image/svg+xml", "page.css": "text/css", "page.js": "text/javascript"}

#: The whole of an attempt; the other timings are its parts.
_TOTAL = "total"


def render(template: str, status: int = 200, /, **context: Any) -> HTMLResponse:
    """A page. Names that the template misses are an error, not a gap."""
    text = _environment().get_template(template).render(context)
    return HTMLResponse(text, status_code=status, headers={"Content-Security-Policy": _POLICY})


def stages(timings: Mapping[str, float]) -> list[tuple[str, float]]:
    """Where an attempt's time went, the longest first."""
    parts = [(stage, seconds) for stage, seconds in timings.items() if stage != _TOTAL]
    return sorted(parts, key=lambda part: part[1], reverse=True)


def share(seconds: float, timings: Mapping[str, float]) -> float:
    """Percent of the attempt's time that one stage took."""
    whole = timings.get(_TOTAL) or sum(timings.values())
    return round(min(100.0, 100 * seconds / whole), 2) if whole else 0.0


@cache
def asset_bytes(name: str) -> bytes:
    """A file of `api/static`, one of ASSET_TYPES."""
    return files("api").joinpath("static", name).read_bytes()


@cache
def _asset_url(name: str) -> str:
    """Its address changes with its contents, so that browsers may keep it for ever."""
    return f"/static/{name}?v={hashlib.sha256(asset_bytes(name)).hexdigest()[:12]}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("api"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": human.ago,
        "count": human.count,
        "duration": human.duration,
        "percent": human.percent,
        "plural": human.plural,
        "rate": human.rate,
        "size": human.size,
        "utc": human.utc,
    }
    environment.globals |= {"asset": _asset_url, "share": share, "stages": stages, "stripes": stripes, "tried": tried}
    return environment
