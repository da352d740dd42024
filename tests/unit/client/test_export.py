"""A job's tokens in the formats of training programs, read back by the programs' own libraries."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glm4v_client import EmbeddingClient, JobHandle, VisualTokens
from glm4v_client.errors import InvalidArgument
from glm4v_client.export import export, export_stored
from glm4v_client.exported_item import Exportable
from glm4v_client.restoring import to_torch
from tests.artefacts import artefact_of
from tests.fake_service import FakeService, Refused
from tests.unit.client.conftest import QUICK

SOURCES = [f"s3://media/{number}.jpg" for number in range(5)]


@pytest.fixture
def job(service: FakeService, certificates: Any) -> Iterator[JobHandle]:
    with EmbeddingClient(service.url, retry=QUICK, verify=certificates) as client:
        job = client.submit([*SOURCES[:2], "s3://media/broken.jpg", *SOURCES[2:]])
        job.wait()
        yield job


def tokens_of(source: str) -> torch.Tensor:
    return VisualTokens(artefact_of(source)).to_torch()


def rows(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


# The library leaves its files to be closed by whoever collects the garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_every_embedding_with_what_is_known_of_it(job: JobHandle, tmp_path: Path) -> None:
    import webdataset

    summary = export(job, tmp_path, format="webdataset")

    assert (summary.items, summary.without_embedding) == (5, {"corrupt_media": 1})
    assert [path.name for path in summary.shards] == ["job-00000.tar"]
    samples = list(webdataset.WebDataset([str(path) for path in summary.shards], shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{position:08}" for position in (0, 1, 3, 4, 5)]
    for sample, source in zip(samples, SOURCES, strict=True):
        about = json.loads(sample["json"])
        assert (about["source"], about["grid_thw"], about["dtype"]) == (source, [1, 4, 4], "bfloat16")
        assert torch.equal(VisualTokens(sample["safetensors"]).to_torch(), tokens_of(source))


def test_parquet_keeps_rows_as_they_are_stored(job: JobHandle, tmp_path: Path) -> None:
    from glm4v_client.parquet_shard import artefact_of as artefact_of_row

    export(job, tmp_path, format="parquet")

    read = rows(tmp_path)
    assert [row["source"] for row in read] == SOURCES
    assert [row["position"] for row in read] == [0, 1, 3, 4, 5]
    for row, source in zip(read, SOURCES, strict=True):
        assert torch.equal(to_torch(artefact_of_row(row)), tokens_of(source))
        assert (row["grid_thw"], row["timestamps"], row["scales"]) == ([1, 4, 4], None, None)


def test_parquet_keeps_a_clips_times_and_the_scales_of_light_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glm4v_client import parquet_shard
    from tests.unit.test_restoring import light

    content = light("int8")
    monkeypatch.setattr(parquet_shard, "_ROW_GROUP_BYTES", 1)
    item = Exportable(position=0, source="a.mp4", item_id=None, load=lambda: VisualTokens(content))
    with parquet_shard.open_parquet_shard(tmp_path / "one.parquet") as shard:
        shard.add(item, VisualTokens(content))
        shard.add(item, VisualTokens(content))

    first, second = rows(tmp_path)
    assert torch.equal(to_torch(parquet_shard.artefact_of(first)), VisualTokens(content).to_torch())
    assert first == second


@pytest.mark.parametrize(("format_", "suffix"), [("webdataset", "tar"), ("parquet", "parquet")])
def test_a_full_shard_is_followed_by_another(job: JobHandle, tmp_path: Path, format_: str, suffix: str) -> None:
    size = len(artefact_of(SOURCES[0]))
    summary = export(job, tmp_path, format=format_, shard_bytes=2 * size)

    assert [path.name for path in summary.shards] == [f"job-0000{number}.{suffix}" for number in range(3)]
    assert sorted(tmp_path.iterdir()) == summary.shards
    assert summary.byte_size == 5 * size


def test_the_same_job_gives_the_same_bytes(job: JobHandle, tmp_path: Path) -> None:
    first, second = (export(job, tmp_path / name, format="webdataset").shards[0] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_an_embedding_that_cannot_be_had_is_left_out_and_told(
    job: JobHandle, service: FakeService, tmp_path: Path
) -> None:
    service.fail(r"GET /v1/items/\d*1/embedding", *[Refused(404)] * 10)
    summary = export(job, tmp_path, format="webdataset")

    assert [item.source for item, _ in summary.failed] == [SOURCES[1]]
    assert not summary.is_complete
    with tarfile.open(summary.shards[0]) as tar:
        assert len(tar.getnames()) == 2 * 4


def test_shards_are_never_mixed_with_older_ones_and_a_broken_export_leaves_none(job: JobHandle, tmp_path: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(job, tmp_path, format="webdataset", on_item=stop)
    assert not list(tmp_path.iterdir())
    export(job, tmp_path, format="webdataset")
    with pytest.raises(InvalidArgument, match="has shards already"):
        export(job, tmp_path, format="webdataset")
    with pytest.raises(ValueError, match="arrow"):
        export(job, tmp_path, format="arrow")


def test_a_folder_of_artefacts_is_exported_without_a_service_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.mkdir()
    for number, source in enumerate(SOURCES):
        (stored / f"{number}.safetensors").write_bytes(artefact_of(source))
    (stored / "3.safetensors").write_bytes(artefact_of(SOURCES[3])[:-1])

    summary = export_stored(stored, tmp_path / "shards", format="webdataset")

    assert [item.source for item, _ in summary.failed] == ["3.safetensors"]
    with tarfile.open(summary.shards[0]) as tar:
        assert tar.getnames()[::2] == [f"0000000{position}.safetensors" for position in (0, 1, 2, 4)]
        kept = tar.extractfile("00000002.safetensors")
        assert kept is not None
        assert kept.read() == artefact_of(SOURCES[2])
    chosen = export_stored(stored, tmp_path / "chosen", format="webdataset", keys=["4.safetensors", "0.safetensors"])
    assert (chosen.items, chosen.is_complete) == (2, True)


def test_a_shard_is_read_while_it_streams(job: JobHandle, tmp_path: Path) -> None:
    """Readers of tar streams seek nowhere: each member's size stands before it."""
    (shard,) = export(job, tmp_path, format="webdataset").shards
    with tarfile.open(fileobj=io.BytesIO(shard.read_bytes()), mode="r|") as tar:
        assert sum(1 for _ in tar) == 10
