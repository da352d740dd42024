"""The worker of `glm4v serve`: it embeds whatever is submitted to a folder's database, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack

from worker.encoding import Encoder
from worker.errors import EmbedError, InternalError, TransientError
from worker.folder import OutputFolder
from worker.folder_worker import FolderWorker
from worker.presence import Presence
from worker.records import Outcome
from worker.retention import Retention
from worker.runtime import load_torch_encoder
from worker.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two looks for work, while some is under way and while there is none.
_TICK, _IDLE = 0.1, 0.5
#: Seconds before the database is asked again that did not answer.
_PAUSE = 1.0


class ResidentWorker:
    """A thread that serves every job of a folder.

    Of local files it reads what was uploaded into the folder, and what lies in GLM4V_FILE_ROOTS.
    """

    def __init__(
        self,
        settings: Settings,
        folder: OutputFolder,
        *,
        load: Callable[[Settings], Encoder] = load_torch_encoder,
        on_failure: Callable[[EmbedError], None] = lambda _: None,
    ) -> None:
        """
        Args:
            settings: of `folder_worker.embedded_settings`.
            on_failure: told, in the worker's thread, why it has ended by itself.
        """
        self._settings = settings
        self._folder = folder
        self._worker = FolderWorker(settings, load=load, observe=self._observe)
        runtime = self._worker.runtime
        self._presence = Presence(runtime)
        self._retention = Retention(self._worker.repository, lambda: runtime.pipeline.storage, settings)
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resident", daemon=True)
        self._held = ExitStack()

    def start(self) -> None:
        """Take the folder's lock, make its database, load the model, take over what a killed process left; then work.

        Raises:
            EmbedError: the folder is another process's, or a setting or the model makes that impossible.
        """
        self._held.enter_context(self._folder.lock())
        try:
            self._worker.start()
            self._worker.take_over()
            self._presence.beat()
        except BaseException:
            self._worker.stop(0)
            self._held.close()
            raise
        self._thread.start()

    def wake(self) -> None:
        """Look for work now: some was submitted."""
        self._worker.wake()

    def stop(self, drain_seconds: float | None = None) -> None:
        """Finish what is decoded within the time given, or GLM4V_DRAIN_SECONDS; the rest waits for the next start."""
        self._stopping.set()
        self._worker.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._presence.leave()
        self._worker.stop(self._settings.drain_seconds if drain_seconds is None else drain_seconds)
        self._held.close()

    def _observe(self, outcome: Outcome) -> None:
        self._presence.observe(outcome)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and self._worker.runtime.engine.broken is None:
                self._step()
        except Exception as error:
            log.exception("the worker ends")
            self._on_failure(InternalError(f"Unexpected {type(error).__name__}: {error}."))
            return
        if self._worker.runtime.engine.broken is not None:
            self._on_failure(self._worker.runtime.engine.broken)

    def _step(self) -> None:
        try:
            self._worker.hand_out()
            self._worker.mend()
            self._presence.beat()
            self._retention.run_once()
            self._worker.wait(_IDLE if self._worker.is_idle else _TICK)
        except TransientError as error:
            log.warning("the worker goes on in a moment: %s", error.message)
            self._stopping.wait(_PAUSE)
