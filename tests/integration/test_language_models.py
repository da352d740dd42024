"""Language models on stored tokens against the same models on pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glm4v_core.consumers.huggingface import PlaceholderIds, embedded_inputs, model_inputs
from glm4v_core.consumers.prompts import fill_prompt
from tests.language_models import Clip, LanguageModel, Medium, clip, language_model, picture, stored, tokenizer

pytestmark = [
    # Theirs, of numpy reading torch tensors.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

IMAGE_PLACE = "<|begin_of_image|><|image|><|end_of_image|>"
VIDEO_PLACE = "<|begin_of_video|><|video|><|end_of_video|>"
NEW_TOKENS = 20

MEDIA: dict[str, list[Medium]] = {
    "one image": [picture(130, 210)],
    "several images": [picture(60, 60), picture(400, 80), picture(113, 150)],
    # Seconds with fractions, which the two forms of a prompt write differently.
    "a video": [clip(40, 70, 90, fps=12.5)],
    "two videos": [clip(40, 70, 90, fps=12.5), clip(9, 120, 60, fps=3)],
}
MIX: list[Medium] = [picture(60, 60), clip(40, 70, 90, fps=12.5), picture(130, 210), clip(9, 120, 60, fps=3)]
CLASSES = ["Glm4v", "Glm4vMoe", "Glm46V", "GlmOcr"]


@pytest.fixture(scope="module", params=CLASSES)
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(request.param, tmp_path_factory.mktemp("checkpoints"))


def template(media: list[Medium]) -> str:
    places = [VIDEO_PLACE if isinstance(medium, Clip) else IMAGE_PLACE for medium in media]
    return f"{' and then '.join(places)} What is seen?"


def from_pixels(language: LanguageModel, media: list[Medium]) -> dict[str, Any]:
    """The inputs that transformers' own processor makes."""
    images = [medium for medium in media if not isinstance(medium, Clip)]
    clips = [medium for medium in media if isinstance(medium, Clip)]
    return dict(
        language.processor(
            text=[template(media)],
            images=images or None,
            videos=[medium.frames for medium in clips] or None,
            videos_kwargs={"video_metadata": [medium.metadata for medium in clips]} if clips else {},
            return_tensors="pt",
        )
    )


def from_tokens(
    language: LanguageModel, media: list[Medium], folder: Path, *, clips_apart: bool = False
) -> dict[str, Any]:
    items = stored(language.pipeline, media, folder)
    text = fill_prompt(template(media), items, language.seconds)
    input_ids = tokenizer()(text, return_tensors="pt").input_ids
    return model_inputs(input_ids, items, PlaceholderIds.of(tokenizer()), clips_apart=clips_apart)


@torch.no_grad()
def assert_equal_answers(language: LanguageModel, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    torch.testing.assert_close(language.model(**ours).logits, language.model(**theirs).logits, rtol=1e-4, atol=1e-5)
    answers = [
        language.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0] for inputs in (ours, theirs)
    ]
    assert len(answers[0]) == ours["input_ids"].shape[1] + NEW_TOKENS
    assert torch.equal(*answers)


@pytest.mark.parametrize("name", MEDIA)
def test_stored_tokens_answer_as_pixels_do(language: LanguageModel, name: str, tmp_path: Path) -> None:
    theirs = from_pixels(language, MEDIA[name])

    ours = from_tokens(language, MEDIA[name], tmp_path)

    for key in theirs.keys() & ours.keys():
        assert torch.equal(ours[key], theirs[key]), key
    assert theirs.keys() - ours.keys() <= {"pixel_values", "pixel_values_videos"}
    assert_equal_answers(language, ours, theirs)


@pytest.mark.parametrize("name", [*MEDIA, "a mix"])
def test_glm_5_3_flash_answers_from_stored_tokens_as_from_pixels(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The one model that tells clips from pictures by itself: its own pixels may be mixed."""
    language = language_model("Glm5Next", tmp_path_factory.getbasetemp())
    media = MEDIA.get(name, MIX)

    ours = from_tokens(language, media, tmp_path, clips_apart=True)

    theirs = from_pixels(language, media)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    grids = {f"{kind}_grid_thw" for kind in ours["mm_encoder_outputs"]}
    assert grids == {key for key in theirs if key.endswith("_grid_thw")}
    assert_equal_answers(language, ours, theirs)


def as_pictures(language: LanguageModel, media: list[Medium]) -> dict[str, Any]:
    """Pixels of a mix, each of a clip's temporal patches as a picture of its own: transformers refuses it as it is."""
    theirs = from_pixels(language, media)
    images, clips = iter(theirs["image_grid_thw"]), iter(theirs["video_grid_thw"])
    image_rows, clip_rows = theirs["pixel_values"], theirs["pixel_values_videos"]
    grids, rows = [], []
    for medium in media:
        grid = next(clips if isinstance(medium, Clip) else images)
        count = int(grid.prod())
        if isinstance(medium, Clip):
            grids += [grid.new_tensor((1, *grid[1:]))] * int(grid[0])
            taken, clip_rows = clip_rows[:count], clip_rows[count:]
        else:
            grids.append(grid)
            taken, image_rows = image_rows[:count], image_rows[count:]
        rows.append(taken)
    return {
        "input_ids": theirs["input_ids"],
        "attention_mask": theirs["attention_mask"],
        "mm_token_type_ids": theirs["mm_token_type_ids"].clamp(max=1),
        "pixel_values": torch.cat(rows),
        "image_grid_thw": torch.stack(grids),
    }


def test_stored_tokens_of_a_mix_answer_as_pixels_would(language: LanguageModel, tmp_path: Path) -> None:
    ours = from_tokens(language, MIX, tmp_path)

    assert torch.equal(ours["input_ids"], from_pixels(language, MIX)["input_ids"])
    assert_equal_answers(language, ours, as_pictures(language, MIX))


def test_transformers_refuses_the_pixels_of_a_mix(language: LanguageModel) -> None:
    """When this fails, docs/consumers.md has a gap less to tell of."""
    with pytest.raises(ValueError, match="Image features and image tokens do not match"):
        language.model(**from_pixels(language, MIX))


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_of_a_batch_are_answered_as_each_alone(language: LanguageModel, side: str, tmp_path: Path) -> None:
    both = [MEDIA["one image"], MEDIA["a video"]]
    alone = []
    for number, media in enumerate(both):
        (tmp_path / str(number)).mkdir()
        alone.append(from_tokens(language, media, tmp_path / str(number)))
    items = [item for n, media in enumerate(both) for item in stored(language.pipeline, media, tmp_path / str(n))]
    padded = tokenizer().pad({"input_ids": [each["input_ids"][0] for each in alone]}, padding_side=side)

    inputs = model_inputs(padded["input_ids"], items, PlaceholderIds.of(tokenizer()), padded["attention_mask"])

    with torch.no_grad():
        logits = language.model(**inputs).logits
        for row, mask, each in zip(logits, inputs["attention_mask"].bool(), alone, strict=True):
            torch.testing.assert_close(row[mask], language.model(**each).logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*MEDIA, "a mix"])
@torch.no_grad()
def test_embedded_prompts_answer_as_pixels_do(language: LanguageModel, name: str, tmp_path: Path) -> None:
    """The way for releases that take no encoder outputs."""
    media = MEDIA.get(name, MIX)
    items = stored(language.pipeline, media, tmp_path)
    text = fill_prompt(template(media), items, language.seconds)
    input_ids = tokenizer()(text, return_tensors="pt").input_ids

    inputs = embedded_inputs(input_ids, items, PlaceholderIds.of(tokenizer()), language.model.get_input_embeddings())

    theirs = as_pictures(language, media) if name == "a mix" else from_pixels(language, media)
    torch.testing.assert_close(language.model(**inputs).logits, language.model(**theirs).logits, rtol=1e-4, atol=1e-5)
    language.model.model.rope_deltas = None
    answer = language.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    expected = language.model.generate(**theirs, max_new_tokens=NEW_TOKENS, do_sample=False)
    assert torch.equal(answer, expected[:, input_ids.shape[1] :])


@pytest.mark.parametrize("name", [*MEDIA, "a mix"])
@torch.no_grad()
def test_each_of_several_answers_reads_the_whole_prompt(language: LanguageModel, name: str, tmp_path: Path) -> None:
    """Beams read each prompt more than once; with several pictures transformers takes its own pixels out of order."""
    items = stored(language.pipeline, MEDIA.get(name, MIX), tmp_path)
    text = fill_prompt(template(MEDIA.get(name, MIX)), items, language.seconds)
    input_ids = tokenizer()(text, return_tensors="pt").input_ids
    ids, embed = PlaceholderIds.of(tokenizer()), language.model.get_input_embeddings()
    beams = {"max_new_tokens": NEW_TOKENS, "num_beams": 3, "num_return_sequences": 3, "do_sample": False}

    ours = language.model.generate(**model_inputs(input_ids, items, ids), **beams)
    embedded = language.model.generate(**embedded_inputs(input_ids, items, ids, embed), **beams)

    assert torch.equal(ours[:, input_ids.shape[1] :], embedded)


@torch.no_grad()
def test_other_tokens_give_another_answer(language: LanguageModel, tmp_path: Path) -> None:
    """Otherwise the tests of this file would prove nothing."""
    ours = from_tokens(language, MEDIA["one image"], tmp_path)
    theirs = language.model(**ours).logits
    outputs = ours["mm_encoder_outputs"]["image"]

    outputs["pooler_output"] = tuple(tokens.flip(0) for tokens in outputs["pooler_output"])

    assert not torch.allclose(language.model(**ours).logits, theirs, rtol=1e-2, atol=1e-3)
