"""The service as the API sees it: its rows, its stores, and who is told of new work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

from kombu.exceptions import OperationalError

from api.announcing import Announcer
from api.fetching import open_preview_fetcher
from api.late_storage import LateStorage
from api.public_links import PublicLinks
from api.uploads_store import UploadStore
from worker.celery import EmbedApp
from worker.database import create_engine
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable
from worker.media import Fetcher
from worker.repository import Repository
from worker.settings import Settings
from worker.storage import open_storage
from worker.webhooks import WebhookSender


class Companion(Protocol):
    """Something that runs beside the requests."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Service:
    """What the routes need. Threads share it."""

    def __init__(
        self,
        *,
        settings: Settings,
        repository: Repository,
        storage: LateStorage,
        uploads: UploadStore,
        fetcher: Fetcher,
        announce: Callable[[str], None],
        checks: Mapping[str, Callable[[], None]],
        links: PublicLinks | None,
        beside: Sequence[Companion],
        held: ExitStack,
    ) -> None:
        """
        Args:
            storage: of artefacts.
            fetcher: reads sources for previews.
            announce: told of each model that has new work.
            checks: by server, what raises an EmbedError while it is away.
            links: where clients fetch artefacts by themselves; None: through the API.
            beside: what runs while the service does.
            held: what is closed with the service.
        """
        self.settings = settings
        self.repository = repository
        self.storage = storage
        self.uploads = uploads
        self.fetcher = fetcher
        self.announce = announce
        self.checks = dict(checks)
        self.links = links
        self._beside = tuple(beside)
        self._held = held

    def start(self) -> None:
        """Start what runs beside the requests."""
        for companion in self._beside:
            companion.start()
            self._held.callback(companion.stop)

    def close(self) -> None:
        """Stop and close everything; twice is no error."""
        self._held.close()


def open_service(settings: Settings, *, announce: Callable[[str], None] | None = None) -> Service:
    """The service that the settings name. No server is asked yet: they may be away.

    Args:
        announce: told of each model that has new work, where that is not the broker: in the embedded service.

    Raises:
        InvalidSettings: they name no service.
    """
    with ExitStack() as opening:
        repository = _open_repository(settings)
        opening.callback(repository.close)
        storage = LateStorage(lambda: open_storage(settings.store_url, settings))
        checks: dict[str, Callable[[], None]] = {"database": repository.check, "store": storage.check}
        beside: list[Companion] = [WebhookSender(repository, settings)]
        if settings.broker_url is not None:
            app = EmbedApp(lambda: settings)
            announcer = Announcer(Dispatcher(app, repository).fill)
            beside.append(announcer)
            checks["broker"] = lambda: check_broker(app)
            announce = announce or announcer.announce
        return Service(
            settings=settings,
            repository=repository,
            storage=storage,
            uploads=UploadStore.of(settings, storage),
            fetcher=opening.enter_context(open_preview_fetcher(settings)),
            announce=announce or _nobody_listens,
            checks=checks,
            links=PublicLinks.of(settings),
            beside=beside,
            held=opening.pop_all(),
        )


def _open_repository(settings: Settings) -> Repository:
    engine = create_engine(
        settings.database_url,
        connections=settings.database_connections,
        timeout_seconds=settings.database_timeout_seconds,
    )
    return Repository(engine)


def check_broker(app: EmbedApp) -> None:
    """
    Raises:
        BrokerUnavailable: it does not answer.
    """
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=app.settings.broker_timeout_seconds)
            connection.default_channel.client.ping()
        except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerUnavailable from error


def _nobody_listens(model: str) -> None:
    """Without a broker, workers look into the database by themselves."""
