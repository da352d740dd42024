"""One suite over every kind of store."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import urllib3

from tests.servers import S3, free_port
from worker.directory_storage import INCOMING, DirectoryStorage
from worker.errors import InvalidSettings, ObjectMissing, StorageForbidden, StorageUnavailable
from worker.minio_storage import MinioStorage, connect
from worker.settings import MIB, Settings
from worker.storage import Storage, open_storage

PART = 5 * MIB


def settings(**values: object) -> Settings:
    keys = {"s3_access_key": S3.access_key, "s3_secret_key": S3.secret_key, "store_retries": 0}
    return Settings(
        **{"database_url": "sqlite:///x", "store_url": "file:///x", "store_part_bytes": PART, **keys, **values}
    )


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return open_storage(f"file://{tmp_path / 'a store'}".replace(" ", "%20"), settings())
    return open_storage(request.getfixturevalue("store_url"), settings())


def put(storage: Storage, key: str, *pieces: bytes) -> tuple[int, str]:
    with storage.writer(key) as writer:
        for piece in pieces:
            writer.write(piece)
    return writer.size, writer.sha256


def get(storage: Storage, key: str, start: int = 0, length: int | None = None) -> bytes:
    with storage.open(key, start, length) as file:
        return file.read()


def half_write(storage: Storage, key: str, size: int) -> None:
    with storage.writer(key) as writer:
        writer.write(bytes(size))
        assert storage.size(key) is None
        raise RuntimeError("the caller's own")


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART, 3 * PART + 12345])
def test_what_went_in_comes_out(storage: Storage, size: int):
    data = os.urandom(size)
    step = 700_001
    written = put(storage, "a/b.bin", *(data[start : start + step] for start in range(0, size, step)))
    assert written == (size, hashlib.sha256(data).hexdigest())
    assert get(storage, "a/b.bin") == data
    assert storage.size("a/b.bin") == size


def test_any_buffer_may_be_written(storage: Storage):
    put(storage, "buffers", bytearray(b"ab"), memoryview(b"cd"), memoryview(bytes(8)).cast("d"))
    assert get(storage, "buffers") == b"abcd" + bytes(8)


def test_a_range_is_read_without_the_rest(storage: Storage):
    put(storage, "range", bytes(range(256)))
    assert get(storage, "range", 10, 5) == bytes(range(10, 15))
    assert get(storage, "range", 250) == bytes(range(250, 256))
    assert get(storage, "range", 250, 100) == bytes(range(250, 256))
    assert get(storage, "range", 1000) == b""


def test_a_reader_reads_in_steps_and_may_stop_early(storage: Storage):
    put(storage, "steps", bytes(3 * MIB))
    for _ in range(30):
        with storage.open("steps") as file:
            assert file.read(3) == bytes(3)
            assert len(file.read(2**20)) == 2**20


@pytest.mark.parametrize("size", [10, 2 * PART + 1])
def test_nothing_is_visible_before_the_end_or_after_an_error(storage: Storage, size: int):
    with pytest.raises(RuntimeError, match="the caller's own"):
        half_write(storage, "half/done", size)
    assert storage.size("half/done") is None
    assert list(storage.list()) == []


def test_the_callers_own_os_error_passes_as_it_is(storage: Storage):
    with pytest.raises(FileNotFoundError), storage.writer("x"):
        raise FileNotFoundError("the source, not the store")


def test_an_object_is_replaced_as_a_whole(storage: Storage):
    put(storage, "twice", b"first and longer")
    put(storage, "twice", b"second")
    assert get(storage, "twice") == b"second"


def test_what_is_not_there_is_missing(storage: Storage):
    assert storage.size("no/such") is None
    with pytest.raises(ObjectMissing, match="audit"):
        storage.open("no/such")
    storage.delete("no/such")


def test_a_folder_of_objects_is_no_object(storage: Storage):
    put(storage, "folder/file", b"x")
    assert storage.size("folder") is None
    with pytest.raises(ObjectMissing):
        storage.open("folder")


def test_a_deleted_object_is_gone(storage: Storage):
    put(storage, "gone", b"x")
    storage.delete("gone")
    assert storage.size("gone") is None


def test_a_listing_shows_keys_sizes_and_times_under_a_prefix(storage: Storage):
    for key in ("a/1", "a/22", "b/1", "ab"):
        put(storage, key, key.encode())
    assert {found.key: found.size for found in storage.list()} == {"a/1": 3, "a/22": 4, "ab": 2, "b/1": 3}
    assert sorted(found.key for found in storage.list("a")) == ["a/1", "a/22", "ab"]
    assert sorted(found.key for found in storage.list("a/2")) == ["a/22"]
    assert list(storage.list("c/d")) == []
    assert all(found.modified_at.tzinfo is not None for found in storage.list())


def test_a_listing_goes_beyond_one_page(storage: Storage):
    keys = {f"page/{number:04d}" for number in range(1005)}
    threads = [threading.Thread(target=lambda part: [put(storage, key, b"x") for key in part], args=(part,))
               for part in (sorted(keys)[start::8] for start in range(8))]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.key for found in storage.list("page")} == keys


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".hidden", "a/.b", "a\\b", "ä", "a\n"]
)
def test_a_key_that_could_climb_out_or_hide_is_refused(storage: Storage, key: str):
    for use in (lambda: put(storage, key, b""), lambda: storage.open(key), lambda: storage.size(key),
                lambda: storage.delete(key), lambda: storage.presigned_url(key, expires_seconds=60)):  # fmt: skip
        with pytest.raises(ValueError, match="is not a key"):
            use()


class TestDirectory:
    def test_what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not(self, tmp_path: Path):
        storage = DirectoryStorage(tmp_path)
        (tmp_path / INCOMING / "stray").write_bytes(b"half")
        with storage.writer("alive") as writer:
            writer.write(b"still ")
            DirectoryStorage(tmp_path)
            writer.write(b"here")
        assert get(storage, "alive") == b"still here"
        assert list((tmp_path / INCOMING).iterdir()) == []

    def test_a_folder_that_may_not_be_written_says_so(self, tmp_path: Path):
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(StorageUnavailable, match="check the disk"):
            DirectoryStorage(tmp_path / "file")

    def test_a_folder_has_no_urls(self, tmp_path: Path):
        assert DirectoryStorage(tmp_path).presigned_url("a", expires_seconds=60) is None


class TestMinio:
    def test_a_presigned_url_is_read_without_keys(self, store_url: str):
        storage = open_storage(store_url, settings())
        put(storage, "shown", b"to anyone for a while")
        url = storage.presigned_url("shown", expires_seconds=60)
        assert urllib3.request("GET", url).data == b"to anyone for a while"
        assert urllib3.request("GET", url.partition("?")[0]).status == 403

    def test_wrong_keys_are_named(self, store_url: str):
        with pytest.raises(StorageForbidden, match="GLM4V_S3_SECRET_KEY"):
            open_storage(store_url, settings(s3_secret_key="wrong"))

    def test_a_server_that_is_away_is_unavailable(self):
        url = f"s3://bucket?endpoint=http://127.0.0.1:{free_port()}"
        with pytest.raises(StorageUnavailable):
            open_storage(url, settings())

    def test_two_workers_may_make_the_bucket_at_once(self, store_url: str):
        failures = []

        def start() -> None:
            try:
                open_storage(store_url, settings())
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_an_abandoned_upload_leaves_no_parts(self, store_url: str, s3: S3):
        storage = open_storage(store_url, settings())
        with pytest.raises(RuntimeError, match="the caller's own"):
            half_write(storage, "abandoned", 3 * PART)
        bucket = store_url.removeprefix("s3://").partition("?")[0]
        assert s3.client()._list_multipart_uploads(bucket).uploads == []

    @pytest.mark.parametrize("size", [10, 4 * PART])
    def test_a_body_that_is_damaged_on_its_way_is_refused(self, store_url: str, s3: S3, size: int):
        with DamagingProxy(s3.port) as port:
            client, bucket = connect(store_url.replace(str(s3.port), str(port)), settings())
            # The bucket is made past the proxy, which damages bodies only.
            open_storage(store_url, settings())
            storage = MinioStorage(client, bucket, part_bytes=PART)
            with pytest.raises(StorageUnavailable), storage.writer("damaged") as writer:
                writer.write(b"\x55" * size)
        assert open_storage(store_url, settings()).size("damaged") is None

    @pytest.mark.parametrize(
        "url",
        [
            "s3://bucket?endpoint=127.0.0.1:9000",
            "s3://bucket?endpoint=ftp://host",
            "s3://bucket?endpoint=http://host/path",
            "s3://bucket?endpont=http://host",
            "s3://bucket/folder?endpoint=http://host",
            "s3://bucket?style=sideways",
        ],
    )
    def test_a_url_that_makes_no_sense_is_refused(self, url: str):
        with pytest.raises(InvalidSettings, match="write"):
            open_storage(url, settings())

    def test_a_client_is_told_region_tls_and_style(self):
        client, bucket = connect(
            "s3://photos?endpoint=https://s3.example.org&region=eu-west-1&style=virtual", settings()
        )
        url = client.presigned_get_object(bucket, "key")
        assert url.startswith("https://photos.s3.example.org/key?")
        assert "eu-west-1" in url


class DamagingProxy:
    """Passes TCP through and turns one byte of every request's body into another."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._accept, daemon=True).start()
        return self._server.getsockname()[1]

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake the thread that waits in accept().
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            answers = threading.Thread(target=pass_on, args=(server, client), daemon=True)
            answers.start()
            pass_on(client, server, damage=True)
            answers.join()


def pass_on(source: socket.socket, sink: socket.socket, *, damage: bool = False) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data.replace(b"\x55", b"\x54", 1) if damage and b"\x55\x55" in data else data)
        sink.shutdown(socket.SHUT_WR)
