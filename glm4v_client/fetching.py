"""An item's artefact from the service: gone on with where the connection broke, and checked."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from io import BufferedRandom, BytesIO

import httpx

from glm4v_client.errors import ClientError, DamagedDownload, NoEmbedding
from glm4v_client.records import Embedding, Item
from glm4v_client.service import Service


async def fetch(service: Service, item: Item, file: BytesIO | BufferedRandom) -> None:
    """Write an item's artefact to an empty file that can be read again.

    Raises:
        NoEmbedding: the item has none.
        DamagedDownload: what came is not what the service recorded.
        ClientError: it could not be had.
    """
    if item.embedding is None:
        raise NoEmbedding(item)
    wanted, attempts = item.embedding, service.attempts()
    # The bytes under one key never change, so that a second answer goes on where the first broke off.
    while (have := file.tell()) < wanted.byte_size:
        try:
            await _receive(service, item, file)
        except ClientError as error:
            if file.tell() > have:
                attempts.succeeded()
            await service.pause(attempts, error)
    await service.network.run(lambda: _check(item, wanted, file))


async def _receive(service: Service, item: Item, file: BytesIO | BufferedRandom) -> None:
    have = file.tell()
    # A compressed answer would have offsets of its own.
    headers = {"accept-encoding": "identity"} | ({"range": f"bytes={have}-"} if have else {})
    async with service.open("GET", f"/v1/items/{item.id}/embedding", headers=headers) as response:
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            file.seek(0)
            file.truncate()
        async with aclosing(service.network.chunks(response)) as chunks:
            async for chunk in chunks:
                file.write(chunk)
    if file.tell() <= have:
        raise DamagedDownload(f"the artefact of item {item.position} ends after {file.tell()} bytes")


def _check(item: Item, wanted: Embedding, file: BytesIO | BufferedRandom) -> None:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted.object_sha256:
        raise DamagedDownload(
            f"the artefact of item {item.position} ({item.source}) has the digest {digest} instead of"
            f" {wanted.object_sha256}: fetch it again; if that is the same, its object in the store is damaged"
        )
