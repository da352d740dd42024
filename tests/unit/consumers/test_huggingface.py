"""What needs no model; tests/integration/test_language_models.py has the models."""

from __future__ import annotations

import pytest
import torch

from glm4v_core.consumers.huggingface import PlaceholderIds, embedded_inputs, model_inputs, rotary_positions
from glm4v_core.consumers.stored_tokens import StoredTokens

IDS = PlaceholderIds(image=7, video_start=8, video_end=9)
TOKENS = torch.arange(40.0).view(10, 4)
WIDE = StoredTokens(embeddings=TOKENS[:6], grid_thw=(1, 4, 6))
SMALL = StoredTokens(embeddings=TOKENS[6:8], grid_thw=(1, 2, 4))
CLIP = StoredTokens(embeddings=TOKENS[8:], grid_thw=(2, 2, 2), timestamps=(0.0, 1.0))


def test_pictures_and_frames_are_told_apart_by_where_they_stand() -> None:
    inputs = model_inputs(torch.tensor([[1, 7, 7, 1, 8, 7, 1, 7, 1, 9]]), [SMALL, CLIP], IDS)

    assert inputs["mm_token_type_ids"].tolist() == [[0, 1, 1, 0, 0, 2, 0, 2, 0, 0]]
    assert inputs["image_grid_thw"].tolist() == [[1, 2, 4]]
    assert inputs["video_grid_thw"].tolist() == [[2, 2, 2]]
    (tokens,) = inputs["mm_encoder_outputs"]["image"].pooler_output
    assert torch.equal(tokens, TOKENS[6:])


def test_each_prompt_of_a_batch_has_its_own_tokens() -> None:
    prompts = torch.tensor([[1, 7, 7, 1, 0], [1, 2, 3, 4, 5], [8, 7, 1, 7, 9]])

    outputs = model_inputs(prompts, [SMALL, CLIP], IDS)["mm_encoder_outputs"]["image"].pooler_output

    assert [tokens.tolist() for tokens in outputs] == [TOKENS[6:8].tolist(), TOKENS[8:].tolist()]


def test_a_prompt_of_text_alone_needs_nothing_else() -> None:
    inputs = model_inputs(torch.tensor([[1, 2, 3]]), [], IDS)

    assert inputs.keys() == {"input_ids", "attention_mask", "mm_token_type_ids", "mm_encoder_outputs"}
    assert inputs["mm_encoder_outputs"] == {}
    embedded = embedded_inputs(torch.tensor([[1, 2, 3]]), [], IDS, torch.nn.Embedding(10, 4))
    assert embedded["position_ids"].tolist() == [[[0, 1, 2]]] * 3


def test_text_goes_on_after_a_pictures_longer_side() -> None:
    types = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 0]])

    positions = rotary_positions(types, [WIDE], torch.tensor([[0] + [1] * 8]))

    assert positions[:, 0].tolist() == [
        [0, 0, 1, 1, 1, 1, 1, 1, 4],
        [0, 0, 1, 1, 1, 2, 2, 2, 4],
        [0, 0, 1, 2, 3, 1, 2, 3, 4],
    ]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        pytest.param([7, 7, 7], "number 1 is a picture of 3 tokens in the prompts and a picture of 2", id="too long"),
        pytest.param([7, 7], "hold 1 frames and pictures, the items 3; number 2 is missing", id="no clip"),
        pytest.param([7, 7, 1, 7, 1, 7], "number 2 is a picture of 1 .* and a frame of 1", id="clip outside a clip"),
        pytest.param([8, 7, 1, 7, 9, 7, 7], "number 1 is a frame of 1 .* and a picture of 2", id="another order"),
        pytest.param([7, 7, 8, 7, 1, 7, 9, 7], "number 4 is a picture of 1 .* and missing", id="one too many"),
    ],
)
def test_prompts_that_do_not_hold_the_items_are_refused(prompt: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model_inputs(torch.tensor([prompt]), [SMALL, CLIP], IDS)
