"""Where uploads are kept, and what workers call them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from api.late_storage import LateStorage
from worker.errors import InvalidSettings
from worker.settings import Settings
from worker.storage import open_storage

#: Every upload's key begins with it; `Settings.source_roots` lets workers read files below it.
FOLDER = "uploads"

_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class UploadStore:
    """A store whose objects are sources."""

    storage: LateStorage
    #: What comes before a key in a reference.
    prefix: str

    @classmethod
    def of(cls, settings: Settings, artefacts: LateStorage) -> Self:
        """
        Args:
            artefacts: the store of GLM4V_STORE_URL.

        Raises:
            InvalidSettings: workers would look for uploads on another server.
        """
        url = settings.media_url or settings.store_url
        storage = artefacts
        if settings.media_url is not None:
            storage = LateStorage(lambda: open_storage(url, settings))
        if not url.startswith("s3://"):
            return cls(storage=storage, prefix=f"file://{urlsplit(url).path.rstrip('/')}/")
        if _server(url) != _server(settings.s3_source_url or settings.store_url):
            raise InvalidSettings(
                "uploads would lie on another server than the s3:// sources that workers read: let GLM4V_MEDIA_URL"
                " name a bucket of the endpoint of GLM4V_S3_SOURCE_URL, or of GLM4V_STORE_URL if that is not set"
            )
        return cls(storage=storage, prefix=f"s3://{urlsplit(url).netloc}/")

    def new_key(self, name: str) -> str:
        """A key that nobody can guess; the name is there for people to read."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".-")[-_LONGEST_NAME:].lstrip(".-")
        return f"{FOLDER}/{secrets.token_hex(16)}/{plain or 'upload'}"

    def reference(self, key: str) -> str:
        """What to submit."""
        return self.prefix + (quote(key) if self.prefix.startswith("file://") else key)


def _server(url: str) -> str:
    query = urlsplit(url).query
    return next((part for part in query.split("&") if part.startswith("endpoint=")), "")
