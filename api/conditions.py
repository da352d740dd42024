"""Conditions of a request on what it asks for: `If-None-Match`, `If-Range`."""

from __future__ import annotations


def matches(header: str | None, etag: str) -> bool:
    """Whether one of the tags of an `If-None-Match` header is this one; a weak tag is as good."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return "*" in tags or etag in tags


def quoted(digest: str) -> str:
    """A strong entity tag."""
    return f'"{digest}"'
