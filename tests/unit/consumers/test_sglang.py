"""The layouts as SGLang 0.5.23 reads them: its own steps, told in the tests' names, done here without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glm4v_core.consumers import sglang
from glm4v_core.consumers.stored_tokens import StoredTokens
from glm4v_core.processor_settings import Features

TOKENS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
WIDE = StoredTokens(embeddings=TOKENS[:6], grid_thw=(1, 4, 6))
SMALL = StoredTokens(embeddings=TOKENS[6:8], grid_thw=(1, 2, 4))
CLIP = StoredTokens(embeddings=TOKENS[8:], grid_thw=(2, 2, 2), timestamps=(0.0, 1.0))


def test_all_pictures_of_a_prompt_are_one_entry() -> None:
    entry = sglang.precomputed_embedding([WIDE, SMALL])

    assert isinstance(entry, dict)
    assert entry.keys() == {"format", "feature", "image_grid_thw"}
    assert entry["format"] == "precomputed_embedding"
    assert torch.equal(entry["feature"], TOKENS[:8])
    assert entry["image_grid_thw"].tolist() == [[1, 4, 6], [1, 2, 4]]


def test_the_processors_output_names_its_tokens_and_its_modality() -> None:
    entry = sglang.processor_output([CLIP])

    assert entry.keys() == {"format", "modality", "precomputed_embeddings", "video_grid_thw"}
    assert (entry["format"], entry["modality"]) == ("processor_output", "VIDEO")
    assert torch.equal(entry["precomputed_embeddings"], TOKENS[8:])


@pytest.mark.parametrize("layout", [sglang.precomputed_embedding, sglang.processor_output])
def test_the_grids_are_found_as_attributes_and_what_is_not_there_is_not(
    layout: Callable[[list[StoredTokens]], Features],
) -> None:
    entry = layout([WIDE])

    assert getattr(entry, "image_grid_thw", None) is entry["image_grid_thw"]
    assert getattr(entry, "video_grid_thw", None) is None
    assert getattr(entry, "attention_mask", None) is None


@pytest.mark.parametrize("layout", [sglang.precomputed_embedding, sglang.processor_output])
@pytest.mark.parametrize("items", [[], [WIDE, CLIP]])
def test_items_of_two_kinds_or_none_are_refused(
    layout: Callable[[list[StoredTokens]], Features], items: list[StoredTokens]
) -> None:
    with pytest.raises(ValueError, match="of one kind"):
        layout(items)
