"""Deletes embeddings that nothing refers to any more, and their objects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from worker.repository import Repository
from worker.settings import Settings
from worker.storage import Storage

log = logging.getLogger(__name__)

#: Embeddings that one step deletes: whoever calls has other things to do too.
_STEP = 200
#: Seconds between two looks whether it is anybody's turn.
_LOOK_SECONDS = 60.0
_CHORE = "retention"


def delete_unreferenced(repository: Repository, storage: Storage, *, older_than_seconds: float) -> int:
    """Delete what no item referred to for so long. Returns how many embeddings went.

    Interrupted, it leaves hidden rows for the next run, never a row without its object.
    """
    count = 0
    while deleted := delete_some(repository, storage, older_than_seconds=older_than_seconds, limit=1000):
        count += deleted
    return count


def delete_some(repository: Repository, storage: Storage, *, older_than_seconds: float, limit: int) -> int:
    """As `delete_unreferenced`, but not all of it."""
    batch = repository.retire_embeddings(older_than_seconds=older_than_seconds, limit=limit)
    for embedding in batch:
        storage.delete(embedding.object_key)
    return repository.remove_retired([embedding.stored_id for embedding in batch])


class Retention:
    """Runs by itself in one worker at a time, a step after the other, every GLM4V_RETENTION_INTERVAL_SECONDS."""

    def __init__(
        self,
        repository: Repository,
        storage: Callable[[], Storage],
        settings: Settings,
        *,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        """
        Args:
            storage: asked for at the first deletion, when the worker has opened it.
            observe: told how many embeddings a step has deleted.
        """
        self._repository = repository
        self._storage = storage
        self._settings = settings
        self._observe = observe
        self._look_at = 0.0
        #: While it is this worker's turn and more may be left; it ends before anybody else's can begin.
        self._turn_ends_at = 0.0

    def run_once(self) -> None:
        """Do a step if it is this worker's turn; call it every few seconds, or more often.

        Raises:
            TransientError: the database or the store did not answer; the next step does what is left.
        """
        if time.monotonic() >= self._turn_ends_at and not self._take_turn():
            return
        deleted = delete_some(
            self._repository, self._storage(), older_than_seconds=self._settings.retention_seconds, limit=_STEP
        )
        self._observe(deleted)
        if deleted:
            log.info("%s embeddings that nothing referred to are deleted", deleted)
        else:
            self._turn_ends_at = 0.0

    def _take_turn(self) -> bool:
        interval = self._settings.retention_interval_seconds
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + min(_LOOK_SECONDS, interval)
        if not self._repository.begin_chore(_CHORE, interval_seconds=interval):
            return False
        self._repository.forget_workers()
        self._turn_ends_at = now + interval
        return True
