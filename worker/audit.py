"""Compares the database with the store: rows without objects, objects without rows, and damaged objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice

from worker.errors import ObjectMissing
from worker.records import EmbeddingRecord
from worker.repository import Repository
from worker.storage import Storage, StoredObject

_PAGE = 1000
_READ_BYTES = 2**20

#: What artefact keys begin with: other objects of the bucket are nobody's business here.
PREFIX = "embeddings/"


class Fault(StrEnum):
    MISSING = "missing"  #: an embedding whose object is not there
    DAMAGED = "damaged"  #: an embedding whose object has another size or digest
    STRAY = "stray"  #: an object that no embedding names


class Looked(StrEnum):
    EMBEDDINGS = "embeddings"
    OBJECTS = "objects"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    fault: Fault
    object_key: str
    embedding: EmbeddingRecord | None  #: None for a stray object
    mended: bool
    requeued: int = 0  #: items that will be computed again


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """One pass over everything that is stored.

    Mending a missing or damaged object hides its embedding and queues its items again; mending a stray one deletes it.
    """

    repository: Repository
    storage: Storage
    mend: bool = False
    digests: bool = False  #: read every object and compare its digest, not only its size
    #: A younger object may be an upload whose row is about to be written.
    stray_age_seconds: float = 86_400
    #: Told how many more rows, or objects, were looked at.
    looked: Callable[[Looked, int], None] = lambda _what, _count: None

    def run(self) -> Iterator[Finding]:
        """Findings as they come. What is mended is mended when its finding is handed out."""
        yield from self._embeddings()
        yield from self._objects()

    def _embeddings(self) -> Iterator[Finding]:
        last = 0
        while page := self.repository.embeddings_after(last, limit=_PAGE):
            self.looked(Looked.EMBEDDINGS, len(page))
            for embedding in page:
                last = embedding.stored_id
                fault = self._fault(embedding)
                if fault is not None:
                    requeued = self.repository.recompute(last) if self.mend else 0
                    yield Finding(
                        fault=fault,
                        object_key=embedding.object_key,
                        embedding=embedding,
                        mended=self.mend,
                        requeued=requeued,
                    )

    def _fault(self, embedding: EmbeddingRecord) -> Fault | None:
        size = self.storage.size(embedding.object_key)
        if size is None:
            return Fault.MISSING
        if size != embedding.byte_size:
            return Fault.DAMAGED
        if self.digests:
            return self._digest_fault(embedding)
        return None

    def _digest_fault(self, embedding: EmbeddingRecord) -> Fault | None:
        digest = hashlib.sha256()
        try:
            with self.storage.open(embedding.object_key) as file:
                while piece := file.read(_READ_BYTES):
                    digest.update(piece)
        except ObjectMissing:
            return Fault.MISSING
        return None if digest.hexdigest() == embedding.object_sha256 else Fault.DAMAGED

    def _objects(self) -> Iterator[Finding]:
        youngest = datetime.now(UTC) - timedelta(seconds=self.stray_age_seconds)
        objects = self.storage.list(PREFIX.rstrip("/"))
        while page := list(islice(objects, _PAGE)):
            self.looked(Looked.OBJECTS, len(page))
            old = [found.key for found in page if _is_artefact(found) and found.modified_at <= youngest]
            known = self.repository.known_objects(old)
            for key in old:
                if key not in known:
                    if self.mend:
                        self.storage.delete(key)
                    yield Finding(fault=Fault.STRAY, object_key=key, embedding=None, mended=self.mend)


def _is_artefact(found: StoredObject) -> bool:
    return found.key.startswith(PREFIX)
