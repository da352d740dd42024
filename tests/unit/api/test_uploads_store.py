from __future__ import annotations

from typing import Any

import pytest

from api.late_storage import LateStorage
from api.uploads_store import UploadStore
from worker.errors import InvalidSettings
from worker.settings import Settings


def store_of(**settings: Any) -> UploadStore:
    configured = Settings(database_url="sqlite:///x", **settings)
    return UploadStore.of(configured, LateStorage(lambda: pytest.fail("no store is opened for this")))


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"store_url": "s3://tokens?endpoint=http://s3:9000"}, "s3://tokens/uploads/1/a.jpg"),
        (
            {"store_url": "s3://tokens?endpoint=http://s3:9000", "media_url": "s3://media?endpoint=http://s3:9000"},
            "s3://media/uploads/1/a.jpg",
        ),
        ({"store_url": "file:///some/folder/"}, "file:///some/folder/uploads/1/a.jpg"),
        (
            {
                "store_url": "s3://tokens?endpoint=http://a:9000",
                "s3_source_url": "s3://?endpoint=http://b:9000",
                "media_url": "s3://media?endpoint=http://b:9000&region=x",
            },
            "s3://media/uploads/1/a.jpg",
        ),
    ],
)
def test_a_reference_is_what_workers_of_the_same_settings_read(settings: dict[str, str], reference: str) -> None:
    assert store_of(**settings).reference("uploads/1/a.jpg") == reference


def test_uploads_where_workers_do_not_look_are_refused_at_the_start() -> None:
    with pytest.raises(InvalidSettings, match="GLM4V_MEDIA_URL"):
        store_of(store_url="s3://tokens?endpoint=http://a:9000", s3_source_url="s3://?endpoint=http://b:9000")


def test_keys_are_new_each_time() -> None:
    store = store_of(store_url="file:///folder")

    assert len({store.new_key("a.jpg") for _ in range(100)}) == 100
