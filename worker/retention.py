"""Deletes embeddings that nothing refers to any more, and their objects."""

from __future__ import annotations

from worker.repository import Repository
from worker.storage import Storage


def delete_unreferenced(repository: Repository, storage: Storage, *, older_than_seconds: float) -> int:
    """Delete what no item referred to for so long. Returns how many embeddings went.

    Interrupted, it leaves hidden rows for the next run, never a row without its object.
    """
    count = 0
    while batch := repository.retire_embeddings(older_than_seconds=older_than_seconds):
        for embedding in batch:
            storage.delete(embedding.object_key)
        count += repository.remove_retired([embedding.stored_id for embedding in batch])
    return count
