"""How an object gets into a bucket: in one request, or part by part while it is still being made."""

from __future__ import annotations

import hashlib
import io
import threading
from concurrent.futures import Future
from typing import BinaryIO, cast

from minio import Minio
from minio.helpers import ObjectWriteResult
from typing_extensions import Buffer

from worker.byte_pipe import BytePipe, PipeBroken
from worker.errors import StorageUnavailable
from worker.minio_errors import storage_errors

_ABORT_SECONDS = 5.0


class MinioWriter:
    """An object on its way: held until it fills a part, then sent part by part while the rest is still being made."""

    def __init__(self, put: Put, *, part_bytes: int) -> None:
        self._put = put
        self._part_bytes = part_bytes
        self._held = bytearray()
        self._upload: _Upload | None = None
        self._digest = hashlib.sha256()
        self._etag = Etag(part_bytes)
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: Buffer, /) -> None:
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self._etag.update(view)
        self._size += view.nbytes
        if self._upload is not None:
            self._upload.write(view)
            return
        self._held += view
        if len(self._held) > self._part_bytes:
            self._upload = _Upload(self._put, part_bytes=self._part_bytes)
            self._upload.write(self._held)
            self._held = bytearray()

    def commit(self) -> None:
        if self._upload is not None:
            stored = self._upload.finish()
        else:
            stored = self._put(io.BytesIO(self._held), len(self._held), 0)
        self._put.check(stored, self._etag.hexdigest())

    def abandon(self) -> None:
        if self._upload is not None:
            self._upload.abandon()


class Put:
    """The request that stores one object."""

    def __init__(self, client: Minio, bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key

    def __call__(self, source: BinaryIO, length: int, part_bytes: int) -> ObjectWriteResult:
        with storage_errors(self._key):
            return self._client.put_object(
                self._bucket, self._key, source, length, part_size=part_bytes, num_parallel_uploads=1
            )

    def check(self, stored: ObjectWriteResult, etag: str) -> None:
        """Compare what arrived with what was sent, where the answer tells.

        Not every server verifies the digest that a request is signed with. An encrypting one answers with another tag.
        """
        encrypted = "x-amz-server-side-encryption" in (stored.http_headers or {})
        if encrypted or (stored.etag or "").strip('"') == etag:
            return
        with storage_errors(self._key):
            self._client.remove_object(self._bucket, self._key)
        raise StorageUnavailable(f"{self._key} arrived damaged at the store: try again, and check the network")


class _Upload:
    """A multipart upload in a thread of its own, fed through a pipe that holds a part."""

    def __init__(self, put: Put, *, part_bytes: int) -> None:
        self._put = put
        self._part_bytes = part_bytes
        self._pipe = BytePipe(limit_bytes=part_bytes)
        self._stored: Future[ObjectWriteResult] = Future()
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def write(self, data: Buffer) -> None:
        try:
            self._pipe.write(data)
        except PipeBroken:
            self._stored.result()
            raise

    def finish(self) -> ObjectWriteResult:
        self._pipe.end()
        return self._stored.result()

    def abandon(self) -> None:
        self._pipe.break_off()
        # The thread tells the store to drop the parts; a store that does not answer is not waited for.
        self._thread.join(_ABORT_SECONDS)

    def _run(self) -> None:
        source = cast(BinaryIO, self._pipe)  # put_object only ever calls read()
        try:
            self._stored.set_result(self._put(source, -1, self._part_bytes))
        except Exception as error:  # noqa: BLE001 - raised in the thread that writes
            self._stored.set_exception(error)
        finally:
            # After a failure the writer must not wait for a reader that is gone.
            self._pipe.break_off()


class Etag:
    """The tag that S3 gives an object: the MD5 of its bytes, or of its parts' MD5s with the number of parts."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._left = part_bytes
        self._part = hashlib.md5(usedforsecurity=False)
        self._done: list[bytes] = []

    def update(self, data: memoryview) -> None:
        while data.nbytes:
            if self._left == 0:
                self._done.append(self._part.digest())
                self._part = hashlib.md5(usedforsecurity=False)
                self._left = self._part_bytes
            piece, data = data[: self._left], data[self._left :]
            self._part.update(piece)
            self._left -= piece.nbytes

    def hexdigest(self) -> str:
        if not self._done:
            return self._part.hexdigest()
        digests = [*self._done, self._part.digest()]
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
