"""Everything that embeds items in one process, put together, started and stopped in order."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TypeVar

from worker.database import create_engine
from worker.decode import DecodeLimits, DecoderPool
from worker.encoding import Encoder
from worker.engine import Engine
from worker.errors import TransientError
from worker.fetching import open_fetcher
from worker.fingerprint import Recipes
from worker.leases import Lease, Leases
from worker.limits import ByteBudget, Gate, KeyedLocks
from worker.lookup import Lookup
from worker.pipeline import Pipeline
from worker.recorder import Recorder
from worker.records import ClaimedItem, Outcome
from worker.repository import Repository
from worker.retry import RetryPolicy
from worker.settings import Settings
from worker.storage import Storage, open_storage

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: Seconds that items have to notice that the time for finishing them is over.
_UNWIND_SECONDS = 2.0
#: Seconds between two attempts to claim while the database is away.
_PAUSE = 1.0


def load_torch_encoder(settings: Settings, *, download: bool = True) -> Encoder:
    """The model that the settings name.

    Args:
        download: fetch it from the hub if it is not on this machine.
    """
    # torch takes seconds to import, and a process with another encoder has no use for it.
    from worker.encoder import load_encoder

    return load_encoder(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        revision=settings.model_revision,
        download=download,
    )


def load_fetched_encoder(settings: Settings) -> Encoder:
    """The same for a worker under a supervisor: nobody watches a download there, and each restart would begin it."""
    return load_torch_encoder(settings, download=False)


class Runtime:
    """Embeds items by id. The celery worker and the embedded run differ only in who calls `process`.

    Starting and stopping twice is no error, nor is stopping what was never started.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[Settings], Encoder] = load_torch_encoder,
        observe: Callable[[Outcome], None] = lambda _: None,
        any_path: bool = False,
    ) -> None:
        """
        Args:
            load: makes the encoder, at the start.
            observe: told of every outcome that counts, in the thread of its item.
            any_path: let references name any local file, as on the command line of the file's own user.
        """
        self.settings = settings
        self._load = load
        self._observe = observe
        self._any_path = any_path
        self._database = create_engine(
            settings.database_url,
            connections=settings.database_connections,
            timeout_seconds=settings.database_timeout_seconds,
        )
        self.repository = Repository(self._database)
        self.leases = Leases(self.repository, lease_seconds=settings.lease_seconds)
        self.recorder = Recorder(self.repository, patience_seconds=settings.lease_seconds)
        self.budget = ByteBudget(settings.max_bytes_in_flight)
        self._gate = Gate()
        self._threads = ThreadPoolExecutor(settings.item_threads, thread_name_prefix="item")
        self._stopping = threading.Event()
        #: Of this process, for people.
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._started = ExitStack()
        self._pipeline: Pipeline | None = None

    def start(self) -> None:
        """Load and warm the model and open the stores; returns when items can be processed.

        Raises:
            EmbedError: a setting, the model or a store makes that impossible; the message says what to do.
        """
        if self._pipeline is not None:
            return
        decoders = self._decoders()
        # First, because it goes on by itself while the model loads.
        decoders.start()
        self._started.callback(decoders.stop)
        storage = open_storage(self.settings.store_url, self.settings)
        engine = Engine(
            self._load(self.settings),
            patch_budget=self.settings.patch_budget,
            wait_seconds=self.settings.batch_wait_milliseconds / 1000,
        )
        self._started.callback(engine.stop)
        engine.start()
        self._pipeline = self._build_pipeline(engine, decoders, storage)
        self.leases.start()
        self.recorder.start()

    def process(self, item_ids: Sequence[int], *, alone: bool = False) -> None:
        """Claim these items and embed those that still want it; returns when what became of them is recorded.

        Args:
            alone: they are suspects. Nothing else runs beside them, and none is claimed before its turn: if one kills
                the worker again, no other item pays for it.
        """
        if not alone:
            with self._gate.together():
                self._process(item_ids, suspects=False)
            return
        for suspect in item_ids:
            with self._gate.alone():
                self._process([suspect], suspects=True)

    def stop(self, drain_seconds: float) -> None:
        """Take no more, finish what is decoded, give the rest back, and end every thread that can be ended.

        Args:
            drain_seconds: for finishing; what is not finished by then is given back too.
        """
        self._stopping.set()
        self.leases.stop_undecoded()
        self.leases.wait_until_none(drain_seconds)
        self.leases.stop_all()
        # Ends the waiting for tokens, and with it the items that were not done in time.
        self._started.close()
        self.leases.wait_until_none(_UNWIND_SECONDS)
        self.recorder.stop()
        self.leases.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._database.dispose()

    @property
    def engine(self) -> Engine:
        """Only after the start."""
        return self.pipeline.engine

    @property
    def pipeline(self) -> Pipeline:
        """Only after the start."""
        if self._pipeline is None:
            raise RuntimeError("the runtime is not started")
        return self._pipeline

    def _process(self, item_ids: Sequence[int], *, suspects: bool) -> None:
        if not item_ids or self._stopping.is_set():
            return
        leases = self.leases.hold(self._patiently(lambda: self._claim(item_ids, suspects)))
        futures = [self._threads.submit(self._run, lease) for lease in leases]
        wait(futures)

    def _claim(self, item_ids: Sequence[int], suspects: bool) -> list[ClaimedItem]:
        return self.repository.claim(
            item_ids, worker=self.name, lease_seconds=self.settings.lease_seconds, suspects=suspects
        )

    def _patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask the database until it answers: its restart is no reason to drop a message."""
        while True:
            try:
                return ask()
            except TransientError as error:
                log.warning("the database is asked again: %s", error.message)
                if self._stopping.wait(_PAUSE):
                    raise

    def _run(self, lease: Lease) -> None:
        try:
            self.pipeline.run(lease)
        finally:
            self.leases.let_go(lease)

    def _decoders(self) -> DecoderPool:
        settings = self.settings
        return DecoderPool(
            size=settings.decode_processes,
            timeout_seconds=settings.decode_timeout_seconds,
            # A quarter of a forward: pieces of several clips share one.
            chunk_patches=max(1, settings.patch_budget // 4),
            limits=DecodeLimits(
                max_image_pixels=settings.max_image_pixels,
                max_frame_pixels=settings.max_frame_pixels,
                max_frames=settings.max_source_frames,
                max_duration_seconds=settings.max_duration_seconds,
            ),
        )

    def _build_pipeline(self, engine: Engine, decoders: DecoderPool, storage: Storage) -> Pipeline:
        settings = self.settings
        lookup = Lookup(self.repository)
        lookup.start()
        self._started.callback(lookup.stop)
        return Pipeline(
            model=settings.model,
            fetcher=self._started.enter_context(open_fetcher(settings, any_path=self._any_path)),
            embeddings=lookup,
            recipes=Recipes(model=settings.model, encoder=engine.encoder, dtype=settings.dtype),
            decoders=decoders,
            engine=engine,
            budget=self.budget,
            storage=storage,
            recorder=self.recorder,
            retry=RetryPolicy(
                max_attempts=settings.max_attempts,
                base_seconds=settings.retry_base_seconds,
                limit_seconds=settings.retry_limit_seconds,
                charge_outages=settings.charge_outages,
            ),
            contents=KeyedLocks(),
            observe=self._observe,
        )
