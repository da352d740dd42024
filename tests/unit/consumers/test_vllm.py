"""The layouts as vLLM 0.33.0 reads them: its own steps, told in the tests' names, done here without it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glm4v_core.consumers import vllm
from glm4v_core.consumers.stored_tokens import StoredTokens

TOKENS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
WIDE = StoredTokens(embeddings=TOKENS[:6], grid_thw=(1, 4, 6))
SMALL = StoredTokens(embeddings=TOKENS[6:8].bfloat16(), grid_thw=(1, 2, 4))
CLIP = StoredTokens(embeddings=TOKENS[8:], grid_thw=(2, 2, 2), timestamps=(0.0, 1.0))


def decoded(text: str) -> torch.Tensor:
    return torch.load(io.BytesIO(base64.b64decode(text, validate=True)), weights_only=True)


@pytest.mark.parametrize(("items", "kind"), [([WIDE, SMALL], "image"), ([CLIP], "video")])
def test_the_rows_split_by_a_quarter_of_each_grids_product_are_the_items(items: list[StoredTokens], kind: str) -> None:
    data = vllm.embeddings(items)

    grids = data[f"{kind}_grid_thw"]
    assert grids.dtype == torch.int64
    rows = data[f"{kind}_embeds"].split((grids.prod(-1) // 2 // 2).tolist())
    for found, item in zip(rows, items, strict=True):
        torch.testing.assert_close(found, item.embeddings.to(found.dtype))


@pytest.mark.parametrize("items", [[], [WIDE, CLIP]])
def test_items_of_two_kinds_or_none_are_refused(items: list[StoredTokens]) -> None:
    with pytest.raises(ValueError, match="of one kind"):
        vllm.embeddings(items)


@pytest.mark.parametrize(("item", "kind"), [(SMALL, "image"), (CLIP, "video")])
def test_a_chat_part_holds_base64_of_tensors_that_load_as_weights_only(item: StoredTokens, kind: str) -> None:
    part = vllm.content_part(item, uuid="cat")

    assert (part["type"], part["uuid"]) == (f"{kind}_embeds", "cat")
    tensors = {name: decoded(text) for name, text in part[f"{kind}_embeds"].items()}
    assert tensors.keys() == {f"{kind}_embeds", f"{kind}_grid_thw"}
    assert tensors[f"{kind}_embeds"].dtype == item.embeddings.dtype
    assert torch.equal(tensors[f"{kind}_embeds"], item.embeddings)
    # Parts are stacked: a row each makes (parts, 3).
    assert torch.stack([tensors[f"{kind}_grid_thw"]] * 2).tolist() == [list(item.grid_thw)] * 2


def test_a_chat_part_is_as_large_as_its_own_rows() -> None:
    """The rows are a view of a larger tensor, all of which torch would save."""
    whole = torch.zeros(60_000, 8)
    item = StoredTokens(embeddings=whole[:2], grid_thw=(1, 2, 4))

    assert len(vllm.content_part(item)["image_embeds"]["image_embeds"]) < 10_000
    assert "uuid" not in vllm.content_part(item)


def test_the_encoder_cache_lies_where_the_connector_looks_in_the_models_dtype(tmp_path: Path) -> None:
    path = vllm.write_encoder_cache(WIDE, tmp_path, "0a1b", dtype=torch.bfloat16)

    assert path == tmp_path / "0a1b" / "encoder_cache.safetensors"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    tensors = load_file(path)
    assert list(tensors) == ["ec_cache"]
    assert torch.equal(tensors["ec_cache"], WIDE.embeddings.bfloat16())


def test_an_encoder_cache_is_replaced_whole(tmp_path: Path) -> None:
    vllm.write_encoder_cache(WIDE, tmp_path, "0a1b", dtype=torch.float32)
    path = vllm.write_encoder_cache(SMALL, tmp_path, "0a1b", dtype=torch.float32)

    assert load_file(path)["ec_cache"].shape == (2, 4)


@pytest.mark.parametrize("name", ["", ".", "..", "../elsewhere", "a/b", "/etc"])
def test_a_hash_that_would_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name of a folder"):
        vllm.write_encoder_cache(WIDE, tmp_path, name, dtype=torch.float32)
