"""Worker processes on one set of servers, and jobs for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from glm4v_client.states import DEFAULT_PRIORITY
from tests.worker_process import WorkerProcess
from worker.celery import EmbedApp
from worker.database import create_engine, migrate
from worker.dispatch import Dispatcher, submit_job
from worker.errors import TransientError
from worker.records import ItemRecord, JobProgress, NewJob, Source
from worker.repository import Repository
from worker.settings import Settings, load_settings
from worker.storage import Storage, open_storage

MODEL = "simulated"

#: So that what takes minutes in service takes seconds here.
HASTE = {
    "GLM4V_MODEL": MODEL,
    "GLM4V_DTYPE": "float32",
    "GLM4V_ALLOW_PRIVATE_ADDRESSES": "true",
    "GLM4V_DECODE_PROCESSES": "1",
    "GLM4V_ITEM_THREADS": "16",
    "GLM4V_ITEMS_PER_MESSAGE": "4",
    "GLM4V_LEASE_SECONDS": "3",
    "GLM4V_RECONCILE_INTERVAL_SECONDS": "0.5",
    "GLM4V_RETRY_BASE_SECONDS": "0.2",
    "GLM4V_RETRY_LIMIT_SECONDS": "2",
    "GLM4V_MAX_ATTEMPTS": "10",
    "GLM4V_DRAIN_SECONDS": "5",
    "GLM4V_STORE_TIMEOUT_SECONDS": "5",
    "GLM4V_STORE_RETRIES": "0",
}


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings of a process with this environment."""
    return load_settings(
        Settings, **{name.removeprefix("GLM4V_").lower(): value for name, value in environment.items()}
    )


class Cluster:
    """Any number of workers on one set of servers, with an empty database."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """
        Args:
            settings: GLM4V_ variables of every worker, the servers' addresses among them.
        """
        self.model = MODEL
        self.folder = folder
        self._variables = {**HASTE, **settings}
        self.settings = settings_from(self._variables)
        migrate(self.settings.database_url)
        self.engine = create_engine(self.settings.database_url)
        self.repository = Repository(self.engine)
        self.app = EmbedApp(lambda: self.settings)
        self.dispatcher = Dispatcher(self.app, self.repository)
        self._workers: list[WorkerProcess] = []

    def start_workers(self, count: int, *, app: str = "tests.simulated_worker", **settings: str) -> list[WorkerProcess]:
        """Start workers with these settings over the cluster's own, and wait until they are ready."""
        workers = [self.start_worker(settings, app=app) for _ in range(count)]
        for worker in workers:
            self.wait_until_ready(worker)
        return workers

    def start_worker(self, settings: Mapping[str, str], **process: Any) -> WorkerProcess:
        """Start a worker; `process` as of WorkerProcess. It is not ready yet."""
        log = self.folder / f"worker{len(self._workers)}.log"
        worker = WorkerProcess({**self._variables, **settings}, log=log, **process)
        self._workers.append(worker)
        return worker

    def kill_one(self) -> None:
        """SIGKILL to the worker that has run for the longest."""
        victim = next(worker for worker in self._workers if worker.exit_code is None)
        victim.kill()

    def replace_dead(self) -> None:
        """What a supervisor does: a new worker in the place of each that ended."""
        for worker in [worker for worker in self._workers if worker.exit_code is not None]:
            self._workers.remove(worker)
            worker.log.rename(worker.log.with_suffix(".dead"))
            self._workers.append(WorkerProcess(worker.settings, log=worker.log))

    def storage(self) -> Storage:
        return open_storage(self.settings.store_url, self.settings)

    def submit(self, sources: Iterable[str], *, priority: int = DEFAULT_PRIORITY) -> UUID:
        job = NewJob(model=self.model, priority=priority)
        return submit_job(self.repository, self.dispatcher, job, (Source(source=source) for source in sources)).id

    def progress(self, job_id: UUID) -> JobProgress:
        return self.repository.get_job(job_id).progress

    def items(self, job_id: UUID) -> list[ItemRecord]:
        return self.repository.list_items(job_id, limit=1_000_000)

    def wait_until_ready(self, worker: WorkerProcess) -> None:
        self.wait(lambda: worker.is_ready or worker.exit_code is not None, f"{worker.log.stem} is ready")
        assert worker.exit_code is None, self.logs()

    def wait_until_begun(self, job_id: UUID, items: int) -> None:
        """Until this many items are done: a scenario's fault belongs into the middle."""
        self.wait(lambda: self.progress(job_id).done >= items, f"{items} items are done", seconds=600)

    def wait_until_done(self, job_id: UUID, *, seconds: float = 600, supervised: bool = False) -> None:
        """
        Args:
            supervised: replace workers that end meanwhile.
        """

        def is_done() -> bool:
            if supervised:
                self.replace_dead()
            return self.progress(job_id).finished_at is not None

        self.wait(is_done, "the job is finished", seconds)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not _holds(condition):
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(f"== {worker.log.stem}\n{worker.log.read_text()[-3000:]}" for worker in self._workers)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self.app.close()
        self.engine.dispose()


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except TransientError:
        # The scenario has taken the database away.
        return False
