"""Datasets over real artefacts in a directory and in a real store."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from glm4v_client.artefact import ArtefactHeader
from glm4v_client.errors import InvalidArgument
from glm4v_client.states import MediaKind
from glm4v_client.training import ArtefactDataset, ArtefactStream, pack
from tests.servers import S3
from worker.artefact import ArtefactWriter

# A machine with one processor is enough for these.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

DIM = 8


def artefact(number: int) -> bytes:
    """`number` + 1 tokens that are all `number`; every third is a clip."""
    count, clip = number + 1, number % 3 == 2
    header = ArtefactHeader(
        kind=MediaKind.VIDEO if clip else MediaKind.IMAGE,
        model="m",
        fingerprint="f" * 64,
        content_sha256=f"{number:064x}",
        dtype="float32",
        num_tokens=count,
        dim=DIM,
        grid_thw=(count, 2, 2) if clip else (1, 2, 2 * count),
        timestamps=tuple(float(second) for second in range(count)) if clip else None,
        frame_indices=tuple(range(2 * count)) if clip else None,
    )
    output = io.BytesIO()
    writer = ArtefactWriter(output, header)
    writer.write(np.full((count, DIM), number, "<f4"))
    writer.finish()
    return output.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefacts")
    for number in range(10):
        place = folder / f"{number % 2}" / f"{number:04}.safetensors"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(artefact(number))
    (folder / ".0010.safetensors.part").write_bytes(b"unfinished")
    (folder / ".incoming").mkdir()
    (folder / ".incoming" / "x.safetensors").write_bytes(b"unfinished")
    return folder


def numbers(samples) -> list[int]:
    return [int(sample["content_sha256"], 16) for sample in samples]


def test_any_artefact_is_had_by_its_place(folder: Path) -> None:
    dataset = ArtefactDataset(folder)

    assert len(dataset) == 10
    clip = dataset[dataset.keys.index("0/0008.safetensors")]
    assert torch.equal(clip["embeddings"], torch.full((9, DIM), 8.0))
    assert (clip["kind"], clip["grid_thw"].tolist()) == ("video", [9, 2, 2])
    assert (clip["timestamps"].tolist(), len(clip["frame_indices"])) == ([float(second) for second in range(9)], 18)
    image = dataset[dataset.keys.index("1/0003.safetensors")]
    assert (image["kind"], len(image["timestamps"]), image["key"]) == ("image", 0, "1/0003.safetensors")


def test_a_batch_is_packed_without_padding(folder: Path) -> None:
    loader = DataLoader(ArtefactDataset(folder), batch_size=4, collate_fn=pack)
    batches = list(loader)

    assert [len(batch["lengths"]) for batch in batches] == [4, 4, 2]
    first = batches[0]
    assert first["lengths"].tolist() == [1, 3, 5, 7]
    for part, number in zip(first["embeddings"].split(first["lengths"].tolist()), [0, 2, 4, 6], strict=True):
        assert torch.equal(part, torch.full((number + 1, DIM), float(number)))
    assert first["grid_thw"].shape == (4, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_the_artefacts_without_overlap(folder: Path, workers: int) -> None:
    seen: Counter[int] = Counter()
    for rank in range(2):
        stream = ArtefactStream(folder, rank=rank, world_size=2, shuffle=True)
        found = [
            number for batch in DataLoader(stream, batch_size=None, num_workers=workers) for number in numbers([batch])
        ]
        assert len(found) == len(stream) == 5
        seen.update(found)
    assert seen == Counter(range(10))


def test_every_rank_has_equally_many_unless_all_are_wanted(folder: Path) -> None:
    even = [ArtefactStream(folder, rank=rank, world_size=4) for rank in range(4)]
    assert [len(list(stream)) for stream in even] == [2, 2, 2, 2]
    ragged = [ArtefactStream(folder, rank=rank, world_size=4, even=False) for rank in range(4)]
    assert [len(list(stream)) for stream in ragged] == [3, 3, 2, 2]


def test_an_epoch_has_its_own_order_also_in_workers_that_live_on(folder: Path) -> None:
    stream = ArtefactStream(folder, shuffle=True, seed=7)
    loader = DataLoader(stream, batch_size=None, num_workers=1, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(numbers(loader))
    assert orders[0] == orders[2] != orders[1]
    assert all(sorted(order) == list(range(10)) for order in orders)


def test_a_stream_that_is_left_early_leaves_nothing_behind(folder: Path) -> None:
    stream = iter(ArtefactStream(folder, read_ahead=3))
    assert next(stream)["key"] == "0/0000.safetensors"
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(stream)


def test_the_same_artefacts_are_read_from_a_bucket(
    folder: Path, s3: S3, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = s3.client(), urlsplit(store_url).netloc
    client.make_bucket(bucket)
    for path in sorted(folder.glob("[01]/*.safetensors")):
        client.fput_object(bucket, f"embeddings/{path.name}", str(path))
    client.put_object(bucket, "other/readme.txt", io.BytesIO(b"x"), 1)
    monkeypatch.setenv("GLM4V_S3_ACCESS_KEY", s3.access_key)
    monkeypatch.setenv("GLM4V_S3_SECRET_KEY", s3.secret_key)
    place = f"s3://{bucket}/embeddings?endpoint={s3.url}"

    dataset = ArtefactDataset(place)
    assert len(dataset) == 10
    assert torch.equal(dataset[9]["embeddings"], torch.full((10, DIM), 9.0))
    stream = ArtefactStream(place)
    next(iter(stream))
    assert sorted(numbers(DataLoader(stream, batch_size=None, num_workers=2))) == list(range(10))
    chosen = ArtefactDataset(place, keys=["embeddings/0004.safetensors"])
    assert numbers([chosen[0]]) == [4]


def test_what_is_not_there_or_not_whole_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no artefact in"):
        ArtefactDataset(tmp_path)
    with pytest.raises(InvalidArgument, match="no directory"):
        ArtefactStream(tmp_path / "other")
    with pytest.raises(InvalidArgument, match="10 artefacts cannot be split among 11 ranks"):
        ArtefactStream(folder, rank=0, world_size=11)
    (tmp_path / "cut.safetensors").write_bytes(artefact(3)[:-1])
    with pytest.raises(ValueError, match=r"cut\.safetensors is not a whole artefact: .* bytes of rows"):
        next(iter(ArtefactStream(tmp_path)))
