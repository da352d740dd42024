from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from glm4v_client.states import MediaKind
from glm4v_core.processing import Glm4vImageProcessor, Glm4vVideoProcessor
from worker.decode import DecodeLimits, DecoderPool, Decoding, Header
from worker.errors import DecoderCrashed, DecodeTimeout, EmbedError, TooManyPixels, UnsupportedMedia, WorkerStopping

LIMITS = DecodeLimits(
    max_image_pixels=10_000_000, max_frame_pixels=10_000_000, max_frames=10_000, max_duration_seconds=600
)
IMAGE_SETTINGS = Glm4vImageProcessor().to_dict()
VIDEO_SETTINGS = Glm4vVideoProcessor(max_frames=8, max_pixels=50_000).to_dict()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(size=2, timeout_seconds=60, chunk_patches=600, limits=LIMITS)
    pool.start()
    yield pool
    pool.stop()


def nothing() -> None:
    """Everybody still wants it."""


def read(decoding: Decoding) -> np.ndarray:
    header = decoding.header
    chunks = [np.frombuffer(decoding.read_chunk(size), dtype=np.uint8) for size in header.chunk_sizes()]
    decoding.finish()
    return np.concatenate(chunks).reshape(-1, header.width)


@contextmanager
def decoding(
    pool: DecoderPool,
    path: Path,
    kind: MediaKind,
    settings: Mapping[str, Any],
    check: Callable[[], None] = nothing,
) -> Iterator[Decoding]:
    with pool.reserve(check=check) as decoder:
        yield decoder.decode(path, kind, settings)


def decode(pool: DecoderPool, path: Path, kind: MediaKind) -> tuple[Header, np.ndarray]:
    settings = IMAGE_SETTINGS if kind is MediaKind.IMAGE else VIDEO_SETTINGS
    with decoding(pool, path, kind, settings) as under_way:
        return under_way.header, read(under_way)


def test_an_image_comes_as_the_processor_cuts_it(pool: DecoderPool, media_dir: Path) -> None:
    photo = media_dir / "coffee.png"

    header, patches = decode(pool, photo, MediaKind.IMAGE)

    expected = Glm4vImageProcessor().patches(Image.open(photo))
    assert (header.grid_thw, header.width) == (expected.grid_thw, 588)
    assert header.timestamps is None
    assert header.frame_indices is None
    assert torch.equal(torch.from_numpy(patches), expected.data)


def test_a_clip_comes_in_chunks_that_make_up_the_whole(pool: DecoderPool, media_dir: Path) -> None:
    clip = media_dir / "cockatoo.mp4"

    header, patches = decode(pool, clip, MediaKind.VIDEO)

    expected, plan = Glm4vVideoProcessor(**VIDEO_SETTINGS).patches(clip)
    assert (header.grid_thw, header.width) == (expected.grid_thw, 1176)
    assert list(header.timestamps or ()) == plan.timestamps
    assert list(header.frame_indices or ()) == plan.frame_indices
    assert len(list(header.chunk_sizes())) > 1
    assert torch.equal(torch.from_numpy(patches), expected.data)


def test_an_animation_is_a_clip_when_asked_for(pool: DecoderPool, media_dir: Path) -> None:
    header, _ = decode(pool, media_dir / "newtonscradle.gif", MediaKind.VIDEO)
    assert (header.width, header.timestamps) == (1176, (0.0,))
    header, _ = decode(pool, media_dir / "newtonscradle.gif", MediaKind.IMAGE)
    assert (header.width, header.timestamps) == (588, None)


@pytest.mark.parametrize("kind", [MediaKind.IMAGE, MediaKind.VIDEO])
def test_text_is_not_media(pool: DecoderPool, tmp_path: Path, kind: MediaKind) -> None:
    (tmp_path / "photo.jpg").write_text("This is not a photo.\n" * 100)
    with pytest.raises(UnsupportedMedia):
        decode(pool, tmp_path / "photo.jpg", kind)


def test_a_clip_cut_short_is_an_error_and_the_child_goes_on(pool: DecoderPool, media_dir: Path, tmp_path: Path) -> None:
    whole = (media_dir / "cockatoo.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    children = decoder_processes()

    with pytest.raises(EmbedError) as caught:
        decode(pool, tmp_path / "cut.mp4", MediaKind.VIDEO)

    assert caught.value.code == "corrupt_media"
    decode(pool, media_dir / "coffee.png", MediaKind.IMAGE)
    assert children <= decoder_processes()


def test_a_picture_of_too_many_pixels_is_refused(pool: DecoderPool, tmp_path: Path) -> None:
    Image.new("1", (4000, 3000)).save(tmp_path / "huge.png")
    with pytest.raises(TooManyPixels):
        decode(pool, tmp_path / "huge.png", MediaKind.IMAGE)


def test_a_picture_too_thin_for_the_tower_is_refused(pool: DecoderPool, tmp_path: Path) -> None:
    Image.new("RGB", (10_000, 28)).save(tmp_path / "thin.png")
    with pytest.raises(UnsupportedMedia, match="thin"):
        decode(pool, tmp_path / "thin.png", MediaKind.IMAGE)


def decoder_processes() -> set[int]:
    """Ids of the children of the fork server, which is a child of ours; Postgres, when it runs, has children too."""
    ours = (child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline()))
    return {grandchild.pid for child in ours for grandchild in child.children()}


def test_a_child_that_dies_costs_one_file(pool: DecoderPool, media_dir: Path) -> None:
    def kill_decoders() -> None:
        for pid in decoder_processes():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(DecoderCrashed, match="SIGKILL"):
        with decoding(pool, media_dir / "nasa_13013.mp4", MediaKind.VIDEO, VIDEO_SETTINGS) as under_way:
            kill_decoders()
            read(under_way)

    header, _ = decode(pool, media_dir / "coffee.png", MediaKind.IMAGE)
    assert header.width == 588


def test_a_child_that_takes_too_long_is_killed(media_dir: Path) -> None:
    others = decoder_processes()
    pool = DecoderPool(size=1, timeout_seconds=0.5, chunk_patches=600, limits=LIMITS)
    with pytest.raises(DecodeTimeout):
        with decoding(pool, media_dir / "coffee.png", MediaKind.IMAGE, IMAGE_SETTINGS) as under_way:
            stuck = decoder_processes() - others
            for pid in stuck:
                os.kill(pid, signal.SIGSTOP)
            # What it had sent before it stopped is still read.
            for _ in range(2):
                under_way.read_chunk(1)
    psutil.wait_procs([psutil.Process(pid) for pid in stuck if psutil.pid_exists(pid)], timeout=10)
    pool.stop()


def test_a_file_that_nobody_wants_any_more_frees_its_child(pool: DecoderPool, media_dir: Path) -> None:
    calls = 0

    def lose_interest() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise WorkerStopping

    with pytest.raises(WorkerStopping):
        with decoding(pool, media_dir / "nasa_13013.mp4", MediaKind.VIDEO, VIDEO_SETTINGS, lose_interest) as under_way:
            read(under_way)
    decode(pool, media_dir / "coffee.png", MediaKind.IMAGE)


def test_a_child_is_free_again_as_soon_as_its_file_is_decoded(media_dir: Path) -> None:
    pool = DecoderPool(size=1, timeout_seconds=60, chunk_patches=600, limits=LIMITS)
    with decoding(pool, media_dir / "coffee.png", MediaKind.IMAGE, IMAGE_SETTINGS) as first:
        read(first)
        # Would wait for ever if the only child were still taken.
        decode(pool, media_dir / "rocket.jpg", MediaKind.IMAGE)
    pool.stop()


def test_no_child_outlives_the_pool(media_dir: Path) -> None:
    pool = DecoderPool(size=1, timeout_seconds=60, chunk_patches=600, limits=LIMITS)
    before = decoder_processes()
    decode(pool, media_dir / "coffee.png", MediaKind.IMAGE)
    mine = decoder_processes() - before
    assert len(mine) == 1
    pool.stop()
    deadline = time.monotonic() + 10
    while mine & decoder_processes():
        assert time.monotonic() < deadline
