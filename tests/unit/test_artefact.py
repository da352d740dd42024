from __future__ import annotations

import io
import json
import struct

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from glm4v_client.artefact import ArtefactHeader, read_artefact, read_artefact_header
from glm4v_client.states import MediaKind
from worker.artefact import ArtefactWriter, new_artefact_key
from worker.storage import check_key

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def header(*, dtype: str = "bfloat16", num_tokens: int = 6, dim: int = 8, video: bool = False) -> ArtefactHeader:
    return ArtefactHeader(
        kind=MediaKind.VIDEO if video else MediaKind.IMAGE,
        model="random:tiny",
        fingerprint="f" * 64,
        content_sha256="c" * 64,
        dtype=dtype,
        num_tokens=num_tokens,
        dim=dim,
        grid_thw=(2, 4, 6),
        timestamps=(0.0, 0.1 + 0.2) if video else None,
        frame_indices=(0, 7, 14, 21) if video else None,
    )


def write(about: ArtefactHeader, rows: bytes, *, step: int | None = None) -> bytes:
    output = io.BytesIO()
    writer = ArtefactWriter(output, about)
    for start in range(0, len(rows), step or max(len(rows), 1)):
        writer.write(rows[start : start + (step or len(rows))])
    writer.finish()
    return output.getvalue()


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@given(
    dtype=st.sampled_from(sorted(DTYPES)),
    num_tokens=st.integers(1, 20),
    dim=st.integers(1, 70),
    video=st.booleans(),
    step=st.integers(1, 500),
)
def test_safetensors_reads_what_was_written_bit_for_bit(dtype: str, num_tokens: int, dim: int, video: bool, step: int):
    about = header(dtype=dtype, num_tokens=num_tokens, dim=dim, video=video)
    tokens = torch.randn(num_tokens, dim).to(DTYPES[dtype])
    data = write(about, raw(tokens), step=step)
    tensors = safetensors.torch.load(data)
    assert tensors["embeddings"].dtype == DTYPES[dtype]
    assert raw(tensors["embeddings"]) == raw(tokens)
    assert tensors["embeddings"].shape == (num_tokens, dim)
    assert tensors["grid_thw"].tolist() == [[2, 4, 6]]
    assert tensors["grid_thw"].dtype == torch.int64
    if video:
        assert (tensors["timestamps"].dtype, tensors["timestamps"].tolist()) == (torch.float64, [0.0, 0.1 + 0.2])
        assert (tensors["frame_indices"].dtype, tensors["frame_indices"].tolist()) == (torch.int64, [0, 7, 14, 21])
    else:
        assert set(tensors) == {"embeddings", "grid_thw"}


@pytest.mark.parametrize("video", [False, True])
def test_we_read_what_was_written(video: bool):
    rows = bytes(range(96))
    artefact = read_artefact(io.BytesIO(write(header(video=video), rows)))
    assert artefact.header == header(video=video)
    assert artefact.embeddings == rows


def test_the_file_says_what_it_is_without_the_database(tmp_path):
    path = tmp_path / "one.safetensors"
    path.write_bytes(write(header(), bytes(96)))
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {
            "format_version": "1",
            "kind": "image",
            "model": "random:tiny",
            "fingerprint": "f" * 64,
            "content_sha256": "c" * 64,
        }
    assert safetensors.torch.load_file(path)["embeddings"].shape == (6, 8)


def test_the_same_content_gives_the_same_bytes():
    rows = bytes(range(96))
    assert write(header(video=True), rows, step=7) == write(header(video=True), rows)


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_every_tensor_lies_on_a_multiple_of_eight_bytes(dim: int):
    data = write(header(dim=dim, video=True), bytes(6 * dim * 2))
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    offsets = [entry["data_offsets"][0] for name, entry in entries.items() if name != "__metadata__"]
    assert {(8 + length + offset) % 8 for offset in offsets} == {0}


def test_one_short_read_shows_everything_but_the_tokens():
    file = io.BytesIO(write(header(video=True, num_tokens=5000), bytes(5000 * 16)))
    assert read_artefact_header(file) == header(video=True, num_tokens=5000)
    assert file.tell() < 1500


def test_rows_must_be_as_many_as_was_said():
    output = io.BytesIO()
    writer = ArtefactWriter(output, header())
    writer.write(bytes(90))
    with pytest.raises(ValueError, match="6 bytes of rows are missing"):
        writer.finish()
    with pytest.raises(ValueError, match="7 bytes of rows where 6 were left"):
        writer.write(bytes(7))


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_file_that_is_cut_short_is_an_error(kept: int):
    data = write(header(), bytes(96))[:kept]
    with pytest.raises(ValueError, match=r"ends after|holds 95 bytes"):
        read_artefact(io.BytesIO(data))


def test_a_file_of_another_make_is_an_error():
    with pytest.raises(ValueError, match="format version None"):
        read_artefact(io.BytesIO(safetensors.torch.save({"embeddings": torch.zeros(2, 2)})))
    with pytest.raises(ValueError, match="this is not an artefact"):
        read_artefact(io.BytesIO(b"\xff" * 100))


def test_a_key_names_content_and_fingerprint_and_is_never_given_twice():
    keys = {new_artefact_key("f" * 64, "ab" * 32) for _ in range(1000)}
    assert len(keys) == 1000
    assert all(check_key(key).startswith(f"embeddings/{'f' * 64}/ab/{'ab' * 32}.") for key in keys)
