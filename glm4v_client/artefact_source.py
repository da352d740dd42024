"""Where stored artefacts are read from without a service: a directory or a bucket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from glm4v_client.errors import InvalidArgument

if TYPE_CHECKING:
    from minio import Minio

_SUFFIX = ".safetensors"
_AMAZON = "https://s3.amazonaws.com"


class ArtefactSource(Protocol):
    """Artefacts by key. Threads may share one, and it can be sent to another process."""

    def keys(self) -> list[str]:
        """Every artefact's key, sorted."""
        ...

    def read(self, key: str) -> bytes:
        """A whole artefact.

        Raises:
            OSError: it cannot be read; in a bucket, minio's and urllib3's errors.
        """
        ...


def open_source(place: str | Path) -> ArtefactSource:
    """
    Args:
        place: a directory, `file:///directory`, or `s3://bucket/prefix?endpoint=http://host:9000&region=...&style=path`
            as GLM4V_STORE_URL has it, with a prefix such as `embeddings`. Keys of the bucket come from
            GLM4V_S3_ACCESS_KEY and GLM4V_S3_SECRET_KEY, or else from where Amazon's own programs look for them.

    Raises:
        InvalidArgument: there is no such directory, or the URL makes no sense.
    """
    text = str(place)
    if text.startswith("s3://"):
        return BucketSource(text)
    directory = Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(place)
    if not directory.is_dir():
        raise InvalidArgument(f"there is no directory {directory}")
    return DirectorySource(directory)


class DirectorySource:
    """Every safetensors file below a directory; keys are paths from there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keys(self) -> list[str]:
        found = (path.relative_to(self._directory) for path in self._directory.rglob(f"*{_SUFFIX}"))
        # What begins with a dot is not finished.
        return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))

    def read(self, key: str) -> bytes:
        return (self._directory / key).read_bytes()


class BucketSource:
    """Every safetensors object below a prefix; keys are whole, prefix and all."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, unquote(parts.path).lstrip("/")
        self._options = dict(parse_qsl(parts.query))
        endpoint = urlsplit(self._options.get("endpoint", _AMAZON))
        if not self._bucket or endpoint.scheme not in ("http", "https") or not endpoint.netloc:
            raise InvalidArgument(f"{url} names no bucket: write s3://bucket/prefix?endpoint=http://host:9000")
        self._endpoint = endpoint
        #: The process that made the client, and the client.
        self._connected: tuple[int, Minio | None] = (0, None)

    def keys(self) -> list[str]:
        listed = self._client.list_objects(self._bucket, prefix=self._prefix, recursive=True)
        names = (cast(str, found.object_name) for found in listed)
        return sorted(name for name in names if name.endswith(_SUFFIX))

    def read(self, key: str) -> bytes:
        response = self._client.get_object(self._bucket, key)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    @property
    def _client(self) -> Minio:
        # One for each process: two that share a connection, as a fork leaves them, would read each other's answers.
        process, client = self._connected
        if client is None or process != os.getpid():
            client = self._connect()
            self._connected = os.getpid(), client
        return client

    def _connect(self) -> Minio:
        from minio import Minio

        client = Minio(
            self._endpoint.netloc,
            credentials=_credentials(),
            secure=self._endpoint.scheme == "https",
            region=self._options.get("region"),
        )
        if self._options.get("style") == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connected": (0, None)}


def _credentials() -> Any:
    from minio.credentials.providers import (
        AWSConfigProvider,
        ChainedProvider,
        EnvAWSProvider,
        IamAwsProvider,
        StaticProvider,
    )

    access, secret = os.environ.get("GLM4V_S3_ACCESS_KEY"), os.environ.get("GLM4V_S3_SECRET_KEY")
    if access and secret:
        return StaticProvider(access, secret)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])
