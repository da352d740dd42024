from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file

from glm4v_client import DamagedDownload, VisualTokens
from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from tests.artefacts import artefact_of, write_artefact

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

#: Every bfloat16 and float16 there is: infinities, the smallest of numbers, every NaN.
ALL_HALVES = numpy.arange(2**16, dtype="<u2").tobytes()


def clip(dtype: str, rows: bytes, *, num_tokens: int, dim: int) -> VisualTokens:
    header = ArtefactHeader(
        kind=MediaKind.VIDEO,
        model="random:tiny",
        fingerprint="f" * 64,
        content_sha256="c" * 64,
        dtype=dtype,
        num_tokens=num_tokens,
        dim=dim,
        grid_thw=(2, 4, 6),
        timestamps=(0.0, 0.5),
        frame_indices=(0, 7, 14, 21),
    )
    return VisualTokens(write_artefact(header, rows))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_torch_gets_every_bit(dtype: str):
    tensor = clip(dtype, ALL_HALVES, num_tokens=256, dim=256).to_torch()
    assert (tensor.dtype, tuple(tensor.shape)) == (DTYPES[dtype], (256, 256))
    assert tensor.view(torch.uint8).numpy().tobytes() == ALL_HALVES


def test_numpy_gets_every_bfloat16_as_the_same_float32():
    tokens = clip("bfloat16", ALL_HALVES, num_tokens=256, dim=256)
    array = tokens.to_numpy()
    assert (array.dtype, array.shape) == (numpy.float32, (256, 256))
    numpy.testing.assert_array_equal(array, tokens.to_torch().float().numpy())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_numpy_gets_what_it_knows_as_it_is(dtype: str):
    rows = torch.randn(6, 8).to(DTYPES[dtype])
    array = clip(dtype, rows.numpy().tobytes(), num_tokens=6, dim=8).to_numpy()
    assert array.dtype == dtype
    numpy.testing.assert_array_equal(array, rows.numpy())


def test_arrays_are_the_callers_own():
    tokens = clip("float32", bytes(6 * 8 * 4), num_tokens=6, dim=8)
    tokens.to_torch().fill_(1)
    tokens.to_numpy().fill(1)
    assert tokens.to_torch().sum() == 0
    assert tokens.to_numpy().sum() == 0


def test_a_clip_knows_its_times():
    tokens = clip("float32", bytes(6 * 8 * 4), num_tokens=6, dim=8)
    assert (tokens.grid_thw, tokens.timestamps, tokens.frame_indices) == ((2, 4, 6), (0.0, 0.5), (0, 7, 14, 21))
    assert repr(tokens) == "<VisualTokens 6 x 8 float32 grid_thw=(2, 4, 6)>"


def test_a_saved_file_is_a_safetensors_file_and_replaces_the_last_whole(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"what was there before")
    tokens = VisualTokens(artefact_of("a"))
    assert tokens.save(path) == path
    assert load_file(path)["embeddings"].equal(tokens.to_torch())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"<html>", artefact_of("a")[:-1], artefact_of("a") + b"x"])
def test_what_is_no_whole_artefact_is_refused(content: bytes):
    with pytest.raises(DamagedDownload, match="this is not an artefact that this client reads"):
        VisualTokens(content)
