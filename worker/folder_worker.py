"""The service's worker in one folder: SQLite for Postgres, a directory for S3, a call for the broker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from worker.database import migrate
from worker.encoding import Encoder
from worker.folder import OutputFolder
from worker.records import DispatchedItem, Outcome
from worker.runtime import Runtime, load_torch_encoder
from worker.settings import PREFIX, Settings, load_settings

#: Unlike a service, somebody sits and waits: less patience with a server that does not answer.
_DEFAULTS: dict[str, Any] = {
    "max_attempts": 3,
    "charge_outages": True,
    "retry_base_seconds": 1.0,
    "retry_limit_seconds": 10.0,
    "item_threads": 32,
}
#: Items that one claim takes.
_GROUP = 8
#: Seconds between two looks for retries that have become due.
_UPKEEP_SECONDS = 0.5
_PAGE = 500


def embedded_settings(folder: OutputFolder, **chosen: Any) -> Settings:
    """Settings for a folder: what was chosen, then the GLM4V_ variables, then what suits one machine.

    Raises:
        InvalidSettings: names what makes no sense.
    """
    defaults = {name: value for name, value in _DEFAULTS.items() if f"{PREFIX}{name.upper()}" not in os.environ}
    values = {**defaults, **chosen, "database_url": folder.database_url, "store_url": folder.store_url}
    return load_settings(Settings, **values)


class FolderWorker:
    """Embeds what waits in a folder's database.

    Hold the folder's lock meanwhile: it proves that every other worker is dead.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        any_path: bool = False,
        load: Callable[[Settings], Encoder] = load_torch_encoder,
        observe: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """
        Args:
            any_path, load, observe: as of Runtime.
        """
        self.runtime = Runtime(settings, load=load, observe=observe, any_path=any_path)
        self.repository = self.runtime.repository
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.item_threads, thread_name_prefix="claim")
        self._under_way = 0
        #: Something has happened since the last look.
        self._news = False
        self._changed = threading.Condition()
        self._upkeep_at = 0.0

    def start(self) -> None:
        """Make the database and load the model.

        Raises:
            EmbedError: a setting or the model makes that impossible.
        """
        migrate(self._settings.database_url)
        self.runtime.start()

    def take_over(self) -> None:
        """Mend what a killed process left; once, before anything is handed out."""
        for dead in self.repository.workers():
            self.repository.remove_worker(dead.name)
        if self.repository.expire_leases():
            self._remove_unrecorded_objects()
        self._reconcile(redeliver_after_seconds=0)

    def stop(self, drain_seconds: float) -> None:
        """Finish what is decoded within the time given; what is not finished waits for the next process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.runtime.stop(drain_seconds)

    @property
    def is_idle(self) -> bool:
        return self._under_way == 0

    def hand_out(self) -> None:
        """Keep as many items under way as there are threads; more would only be claimed and wait."""
        room = self._settings.item_threads - self._under_way
        # Refilled in gulps, so that a claim takes several items.
        if room < min(_GROUP, self._settings.item_threads):
            return
        items = self.repository.dispatch(self._settings.model, window_items=2**31, limit=room)
        for item_ids, alone in claims(items):
            with self._changed:
                self._under_way += len(item_ids)
            self._threads.submit(self._process, item_ids, alone)

    def mend(self) -> None:
        """Queue retries that are due, and mend what else went wrong; call it as often as you like.

        Raises:
            EmbedError: the encoder works no more.
        """
        if self.runtime.engine.broken:
            raise self.runtime.engine.broken
        if time.monotonic() > self._upkeep_at:
            self._reconcile(redeliver_after_seconds=3600)
            self._upkeep_at = time.monotonic() + _UPKEEP_SECONDS

    def wait(self, seconds: float) -> None:
        """Until items have finished, or somebody wakes us, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._news, seconds)
            self._news = False

    def wake(self) -> None:
        """End the waiting: there is something to hand out."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def _process(self, item_ids: list[int], alone: bool) -> None:
        try:
            self.runtime.process(item_ids, alone=alone)
        finally:
            with self._changed:
                self._under_way -= len(item_ids)
            self.wake()

    def _reconcile(self, *, redeliver_after_seconds: float) -> None:
        self.repository.reconcile(
            max_attempts=self._settings.max_attempts,
            redeliver_after={self._settings.model: redeliver_after_seconds},
        )

    def _remove_unrecorded_objects(self) -> None:
        """A process killed between storing and recording has left objects that no row names."""
        storage = self.runtime.pipeline.storage
        keys = (found.key for found in storage.list("embeddings"))
        while group := list(islice(keys, _PAGE)):
            for key in set(group) - self.repository.known_objects(group):
                storage.delete(key)


def claims(items: Sequence[DispatchedItem]) -> Iterator[tuple[list[int], bool]]:
    """Ids that are claimed together, and whether they are suspects, which are claimed alone."""
    innocent = [item.id for item in items if not item.suspect]
    for start in range(0, len(innocent), _GROUP):
        yield innocent[start : start + _GROUP], False
    for item in items:
        if item.suspect:
            yield [item.id], True
