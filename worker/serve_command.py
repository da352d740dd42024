"""`glm4v serve`: API and status page; where no servers are set, the worker too, all in one process and one folder."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console
from rich.markup import escape

from api.application import create_app
from api.service import Service, open_service
from glm4v_client.options import Dtype
from worker.embed_command import RANDOM_WEIGHTS
from worker.errors import EmbedError, InvalidSettings
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from worker.logs import configure_logging
from worker.resident import ResidentWorker
from worker.settings import Settings, load_settings, variable
from worker.terminal import SUCCESS, write

_FOLDER, _MODEL = Path("glm4v-output"), "random:tiny"

#: Seconds that requests under way have when it stops.
_GRACE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class ServeCommand:
    """One command line."""

    #: None: the default of an embedded service.
    out: Path | None
    #: None: GLM4V_MODEL, or the default of an embedded service.
    model: str | None
    device: str
    dtype: Dtype | None
    host: str
    #: 0: any that is free.
    port: int

    @property
    def chosen(self) -> dict[str, Any]:
        """Settings that win over the environment's."""
        named = {"model": self.model, "dtype": self.dtype}
        return {"device": self.device} | {name: value for name, value in named.items() if value is not None}


def serve(command: ServeCommand, console: Console) -> int:
    """Serve until a signal ends it. Returns the exit code of a service that ended by itself.

    Raises:
        EmbedError: it cannot begin, or the worker inside works no more.
        OSError: the address cannot be listened on.
        Stopped: by a signal, after everything has been closed in order.
    """
    with ExitStack() as held:
        failures: list[EmbedError] = []
        if variable("database_url") in os.environ:
            settings = _settings_of_servers(command)
            listener = held.enter_context(closing(_listen(command, settings)))
            service = open_service(settings)
        else:
            folder = OutputFolder(command.out or _FOLDER)
            settings = _settings_of_folder(command, folder)
            listener = held.enter_context(closing(_listen(command, settings)))
            service = held.enter_context(_embedded(settings, folder, failures.append, console))
        held.callback(service.close)
        _Server(service, listener, failures).answer()
    return SUCCESS


def _settings_of_servers(command: ServeCommand) -> Settings:
    if command.out is not None:
        raise InvalidSettings(
            f"{variable('database_url')} names the database of a service with servers, which has no --out:"
            " leave out one of them"
        )
    settings = load_settings(Settings, **command.chosen)
    configure_logging(settings)
    return settings


def _settings_of_folder(command: ServeCommand, folder: OutputFolder) -> Settings:
    # Somebody at a terminal wants to see what goes wrong, not what goes well.
    quiet = {} if variable("log_level") in os.environ else {"log_level": "warning"}
    settings = embedded_settings(folder, **{"model": _MODEL} | command.chosen | quiet)
    configure_logging(settings)
    # Said once, by us, with what to do about it.
    logging.getLogger("worker.encoder").setLevel(logging.ERROR)
    return settings


@contextmanager
def _embedded(
    settings: Settings, folder: OutputFolder, on_failure: Callable[[EmbedError], None], console: Console
) -> Iterator[Service]:
    """The service of a folder, with a worker beside it that is drained at the end."""
    if settings.model.startswith("random:"):
        console.print(f"[yellow]warning[/]: {RANDOM_WEIGHTS}")
    worker = ResidentWorker(settings, folder, on_failure=on_failure)
    with console.status(f"loading {escape(settings.model)}"):
        worker.start()
    try:
        yield open_service(settings, announce=lambda _: worker.wake())
    finally:
        console.print("stopping; the same command goes on from here")
        worker.stop()


def _listen(command: ServeCommand, settings: Settings) -> socket.socket:
    """
    Raises:
        InvalidSettings: the port is taken, or strangers could use the service.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            command.host, command.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise InvalidSettings(f"{command.host} is no address of this machine: choose another --host") from error
    if not settings.api_keys and not ipaddress.ip_address(address[0]).is_loopback:
        raise InvalidSettings(
            f"everybody who reaches {command.host} could use the service: set {variable('api_keys')}, "
            "of which `python -m api.keys NAME` makes one, or leave --host out"
        )
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidSettings(
            f"{command.host} port {command.port} cannot be listened on ({reason}):"
            " choose another --port, or stop what uses it, perhaps another `glm4v serve`"
        ) from error


class _Server(uvicorn.Server):
    """Says its URL when it answers, and ends when the worker beside it has."""

    def __init__(self, service: Service, listener: socket.socket, failures: Sequence[EmbedError]) -> None:
        """
        Args:
            failures: why the worker has ended, as soon as it has.
        """
        # Requests are logged by the application, with their ids.
        config = uvicorn.Config(
            create_app(service), log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS
        )
        super().__init__(config)
        self._listener = listener
        self._failures = failures

    def answer(self) -> None:
        """Answer requests until a signal comes.

        Raises:
            Stopped: when it came, after the requests under way.
            EmbedError: the worker has ended.
        """
        self.run(sockets=[self._listener])
        if self._failures:
            raise self._failures[0]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        write(f"{_url(self._listener)}\n")

    async def on_tick(self, counter: int) -> bool:
        return bool(self._failures) or await super().on_tick(counter)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
