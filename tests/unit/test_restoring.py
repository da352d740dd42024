"""Rows of every number format, as torch and as numpy read them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from glm4v_client.artefact import Artefact, ArtefactHeader, read_artefact
from glm4v_client.options import StoredDtype
from glm4v_client.restoring import to_numpy, to_torch
from glm4v_client.states import MediaKind
from glm4v_core.quantization import QuantizedDtype, quantize_rows, restore_rows
from worker.artefact import ArtefactWriter

TOKENS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 4, 6)[:, None]


def header(dtype: StoredDtype, tokens: Tensor = TOKENS) -> ArtefactHeader:
    return ArtefactHeader(
        kind=MediaKind.IMAGE,
        model="m",
        fingerprint="f",
        content_sha256="c",
        dtype=dtype,
        num_tokens=tokens.shape[0],
        dim=tokens.shape[1],
        grid_thw=(1, 2, 2 * tokens.shape[0]),
    )


def raw(tensor: Tensor) -> bytes:
    return tensor.flatten().view(torch.uint8).numpy().tobytes()


def light(dtype: QuantizedDtype, tokens: Tensor = TOKENS) -> bytes:
    """A file of one-byte numbers, written in two steps."""
    output = io.BytesIO()
    writer = ArtefactWriter(output, header(dtype, tokens))
    for part in tokens.split(4):
        rows, scales = quantize_rows(part, dtype)
        writer.write(raw(rows), raw(scales))
    writer.finish()
    return output.getvalue()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_without_scales_are_read_as_torch_reads_them(dtype: StoredDtype) -> None:
    tokens = TOKENS.to(getattr(torch, dtype))
    artefact = Artefact(header=header(dtype), embeddings=raw(tokens))

    assert torch.equal(to_torch(artefact), tokens)
    np.testing.assert_array_equal(to_numpy(artefact).astype(np.float32), tokens.float().numpy())


@pytest.mark.parametrize(("dtype", "error"), [("float8_e4m3", 1 / 16), ("int8", 1 / 127 / 2)])
def test_light_rows_come_back_as_bfloat16_within_their_formats_step(dtype: QuantizedDtype, error: float) -> None:
    restored = to_torch(read_artefact(io.BytesIO(light(dtype))))

    assert restored.dtype == torch.bfloat16
    peaks = TOKENS.abs().amax(dim=1, keepdim=True)
    assert ((restored.float() - TOKENS).abs() / peaks).max() < error * 1.02 + 2**-8
    assert torch.equal(restored, restore_rows(*quantize_rows(TOKENS, dtype)))


@pytest.mark.parametrize("dtype", ["float8_e4m3", "int8"])
def test_numpy_restores_the_same_numbers_as_torch_bit_for_bit(dtype: QuantizedDtype) -> None:
    tokens = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    artefact = read_artefact(io.BytesIO(light(dtype, tokens)))

    np.testing.assert_array_equal(to_numpy(artefact), to_torch(artefact).float().numpy())


def test_every_byte_of_float8_is_the_number_that_torch_takes_it_for() -> None:
    rows = torch.arange(256, dtype=torch.uint8).reshape(1, 256)
    artefact = Artefact(header=header("float8_e4m3", rows), embeddings=raw(rows), scales=raw(torch.ones(1)))
    np.testing.assert_array_equal(to_numpy(artefact), rows.view(torch.float8_e4m3fn).float().numpy())


@pytest.mark.parametrize("dtype", ["float8_e4m3", "int8"])
def test_any_safetensors_reader_finds_rows_and_scales(dtype: QuantizedDtype) -> None:
    tensors = safetensors.torch.load(light(dtype))
    rows, scales = quantize_rows(TOKENS, dtype)

    assert torch.equal(tensors["embeddings"].view(torch.uint8), rows.view(torch.uint8))
    assert torch.equal(tensors["scales"], scales)


def test_a_token_of_zeros_stays_one() -> None:
    for dtype in ("float8_e4m3", "int8"):
        assert not to_torch(read_artefact(io.BytesIO(light(dtype, torch.zeros(4, 8))))).any()


def test_scales_must_be_as_many_as_rows() -> None:
    rows, scales = quantize_rows(TOKENS, "int8")
    writer = ArtefactWriter(io.BytesIO(), header("int8"))
    writer.write(raw(rows), raw(scales[:-1]))
    with pytest.raises(ValueError, match="20 bytes of scales instead of 24"):
        writer.finish()
    with pytest.raises(ValueError, match="holds 68 bytes of rows instead of 72"):
        read_artefact(io.BytesIO(light("int8")[:-4]))


def test_readers_of_old_files_refuse_what_they_would_misread_and_old_files_stay_readable() -> None:
    assert b'"format_version":"2"' in light("int8")
    output = io.BytesIO()
    writer = ArtefactWriter(output, header("bfloat16"))
    writer.write(raw(TOKENS.bfloat16()))
    writer.finish()
    assert b'"format_version":"1"' in output.getvalue()
