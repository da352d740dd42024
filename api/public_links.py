"""Links by which clients fetch artefacts from the store itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from minio import Minio

from worker.settings import Settings


class PublicLinks:
    """Signs links with the service's own key; the store is not asked."""

    def __init__(self, client: Minio, bucket: str, *, seconds: int) -> None:
        self._client = client
        self._bucket = bucket
        self._seconds = seconds

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """None where no address of the store is public.

        Raises:
            InvalidSettings: GLM4V_PUBLIC_STORE_URL makes no sense.
        """
        url = settings.public_store_url
        if url is None:
            return None
        from worker.minio_storage import connect

        if "region=" not in url:
            # Without one the client would ask the store, whose public address the API itself may not reach.
            url += ("&" if "?" in url else "?") + "region=us-east-1"
        client, bucket = connect(url, settings)
        return cls(client, bucket, seconds=settings.public_link_seconds)

    def link(self, key: str, *, file_name: str) -> str:
        """A URL that anybody may read an artefact at for a while, and save under a name."""
        return self._client.presigned_get_object(
            self._bucket,
            key,
            expires=timedelta(seconds=self._seconds),
            response_headers={"response-content-disposition": f'attachment; filename="{file_name}"'},
        )
