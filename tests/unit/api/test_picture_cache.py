from __future__ import annotations

import pytest

from api.picture_cache import PictureCache


@pytest.fixture
def cache() -> PictureCache[bytes]:
    return PictureCache(size=len, limit_bytes=10)


def test_what_was_not_asked_for_the_longest_makes_room(cache: PictureCache[bytes]) -> None:
    cache.put("a", b"1234", seconds=60)
    cache.put("b", b"1234", seconds=60)
    assert cache.get("a") == b"1234"

    cache.put("c", b"1234", seconds=60)

    assert [cache.get(key) for key in "abc"] == [b"1234", None, b"1234"]


def test_a_picture_that_is_over_its_time_is_not_shown(cache: PictureCache[bytes]) -> None:
    cache.put("a", b"1", seconds=-1)

    assert cache.get("a") is None


def test_a_picture_put_again_counts_once(cache: PictureCache[bytes]) -> None:
    for _ in range(5):
        cache.put("a", b"12345", seconds=60)
    cache.put("b", b"12345", seconds=60)

    assert (cache.get("a"), cache.get("b")) == (b"12345", b"12345")


def test_a_picture_larger_than_all_room_is_not_kept(cache: PictureCache[bytes]) -> None:
    cache.put("a", b"x" * 11, seconds=60)

    assert cache.get("a") is None
