from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glm4v_client.artefact import FORMAT_VERSION, SCALED_FORMAT_VERSION
from glm4v_core.consumers.stored_tokens import FORMAT_VERSIONS, StoredTokens
from glm4v_core.quantization import quantize_rows

TOKENS = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))


def artefact(path: Path, version: str | None = FORMAT_VERSION, **tensors: torch.Tensor) -> Path:
    grid = {"grid_thw": torch.tensor([[2, 4, 6]]), "timestamps": torch.tensor([0.0, 1.5], dtype=torch.float64)}
    save_file({"embeddings": TOKENS, **grid, **tensors}, path, metadata=version and {"format_version": version})
    return path


def test_an_artefact_is_read_with_its_grid_and_times(tmp_path: Path) -> None:
    item = StoredTokens.read(artefact(tmp_path / "clip.safetensors"))

    assert torch.equal(item.embeddings, TOKENS)
    assert (item.grid_thw, item.timestamps, item.is_video) == ((2, 4, 6), (0.0, 1.5), True)
    assert item.tokens_per_frame == 6
    assert item.frames == [(1, 4, 6), (1, 4, 6)]


@pytest.mark.parametrize("dtype", ["float8_e4m3", "int8"])
def test_rows_at_half_their_size_come_back_as_tokens(tmp_path: Path, dtype: str) -> None:
    rows, scales = quantize_rows(TOKENS, dtype)  # type: ignore[arg-type]

    item = StoredTokens.read(artefact(tmp_path / "a", SCALED_FORMAT_VERSION, embeddings=rows, scales=scales))

    assert item.embeddings.dtype == torch.bfloat16
    torch.testing.assert_close(item.embeddings.float(), TOKENS, rtol=0.08, atol=0.02)


@pytest.mark.parametrize("version", [None, "3"])
def test_a_file_of_another_version_is_refused(tmp_path: Path, version: str | None) -> None:
    with pytest.raises(ValueError, match=f"format version {version!r}: expected one of 1, 2"):
        StoredTokens.read(artefact(tmp_path / "a", version))


def test_both_packages_mean_the_same_versions() -> None:
    """glm4v_core reads artefacts by itself: neither package may import the other."""
    assert FORMAT_VERSIONS == (FORMAT_VERSION, SCALED_FORMAT_VERSION)


@pytest.mark.parametrize(
    ("tokens", "grid", "timestamps", "words"),
    [
        pytest.param(TOKENS, (1, 4, 6), None, r"has 6 tokens.*\(12, 8\)", id="too many tokens"),
        pytest.param(TOKENS[0], (1, 4, 6), None, r"has 6 tokens.*\(8,\)", id="one token's numbers"),
        pytest.param(TOKENS[:3], (1, 1, 12), None, "multiples of 2", id="not whole cells"),
        pytest.param(TOKENS, (2, 4, 6), None, "timestamps are None", id="a clip without times"),
        pytest.param(TOKENS, (2, 4, 6), (0.0,), "2 temporal patches", id="too few times"),
    ],
)
def test_what_does_not_agree_is_refused_with_its_numbers(
    tokens: torch.Tensor, grid: tuple[int, int, int], timestamps: tuple[float, ...] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        StoredTokens(embeddings=tokens, grid_thw=grid, timestamps=timestamps)
