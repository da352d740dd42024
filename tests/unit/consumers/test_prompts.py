from __future__ import annotations

import pytest
import torch

from glm4v_core.consumers.prompts import fill_prompt, image_part, video_part
from glm4v_core.consumers.stored_tokens import StoredTokens

PICTURE = StoredTokens(embeddings=torch.zeros(2, 8), grid_thw=(1, 2, 4))
CLIP = StoredTokens(embeddings=torch.zeros(2, 8), grid_thw=(2, 2, 2), timestamps=(0.25, 61.75))

WHOLE = (
    "<|begin_of_video|><|begin_of_image|><|image|><|end_of_image|>0"
    "<|begin_of_image|><|image|><|end_of_image|>61<|end_of_video|>"
)
TENTHS = (
    "<|begin_of_video|><|begin_of_image|><|image|><|end_of_image|>0.2 seconds"
    "<|begin_of_image|><|image|><|end_of_image|>61.8 seconds<|end_of_video|>"
)


def test_a_picture_has_a_placeholder_for_each_token() -> None:
    assert image_part(PICTURE) == "<|begin_of_image|><|image|><|image|><|end_of_image|>"


def test_a_clips_frames_are_followed_by_their_times_in_the_models_own_form() -> None:
    assert video_part(CLIP, "whole") == WHOLE
    assert video_part(CLIP, "tenths") == TENTHS


def test_a_chat_template_is_filled_in_order() -> None:
    text = (
        "<|user|>\n<|begin_of_video|><|video|><|end_of_video|>"
        "<|begin_of_image|><|image|><|end_of_image|>Compare them.<|assistant|>"
    )

    assert fill_prompt(text, [CLIP, PICTURE], "whole") == (
        f"<|user|>\n{WHOLE}{image_part(PICTURE)}Compare them.<|assistant|>"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<|image|>", "places for 1 pictures and clips, but 2 items"),
        ("<|image|><|image|><|image|>", "places for 3"),
        ("<|video|><|image|>", r"a place for a clip, but the item of grid \(1, 2, 4\) is a picture"),
        ("<|image|><|image|>", r"a place for a picture, but the item of grid \(2, 2, 2\) is a clip"),
    ],
)
def test_text_and_items_that_do_not_go_together_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fill_prompt(text, [PICTURE, CLIP], "whole")


def test_parts_are_for_their_own_kind() -> None:
    with pytest.raises(ValueError, match="is a clip"):
        image_part(CLIP)
    with pytest.raises(ValueError, match="is a picture"):
        video_part(PICTURE, "whole")
