"""The API and its pages over SQLite and a directory, for tests: what is shown is put there by the repository."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from api.application import create_app
from api.service import open_service
from tests.servers import free_port
from worker.database import migrate
from worker.settings import Settings, load_settings
from worker.storage import open_storage


class StatusSite:
    """An application, and the stores behind it."""

    def __init__(self, folder: Path, **chosen: Any) -> None:
        """
        Args:
            chosen: settings that differ from the ordinary.
        """
        settings = load_settings(
            Settings,
            database_url=f"sqlite:///{folder}/jobs.db",
            store_url=f"file://{folder}/store",
            model="random:tiny",
            **chosen,
        )
        migrate(settings.database_url)
        service = open_service(settings)
        self.repository = service.repository
        self.storage = open_storage(settings.store_url, settings)
        self.application = create_app(service)


class RunningSite(StatusSite):
    """The same on a port of this machine, on a thread."""

    def __init__(self, folder: Path, **chosen: Any) -> None:
        super().__init__(folder, **chosen)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.application, port=free_port(), log_level="warning", ws="none", timeout_graceful_shutdown=1
            )
        )
        self._thread = threading.Thread(target=self._server.run, name="status site")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.config.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
