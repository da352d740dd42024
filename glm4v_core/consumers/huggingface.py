"""Stored tokens as the arguments of transformers' GLM-4V models. transformers itself is not needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from glm4v_core.consumers.prompts import IMAGE, VIDEO_END, VIDEO_START
from glm4v_core.consumers.stored_tokens import MERGE_SIZE, StoredTokens, grids_of
from glm4v_core.packing import Grid
from glm4v_core.processor_settings import Features

_TEXT, _IMAGE, _VIDEO = 0, 1, 2


class Tokenizer(Protocol):
    """All that is asked of a model's tokenizer."""

    def convert_tokens_to_ids(self, tokens: str) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class PlaceholderIds:
    """The ids by which pictures and clips are found among a prompt's tokens."""

    #: Of every visual token, those of a clip's frames too.
    image: int
    video_start: int
    video_end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Ask a model's tokenizer, as its processor does: the ids in `config.json` are not always the tokenizer's."""
        image, start, end = (tokenizer.convert_tokens_to_ids(token) for token in (IMAGE, VIDEO_START, VIDEO_END))
        return cls(image=image, video_start=start, video_end=end)


def model_inputs(
    input_ids: Tensor,
    items: Sequence[StoredTokens],
    ids: PlaceholderIds,
    attention_mask: Tensor | None = None,
    *,
    clips_apart: bool = False,
) -> dict[str, Any]:
    """The arguments of `forward` and `generate` in transformers 5.23, in place of pixels.

    Args:
        input_ids: int64 `(batch, length)`, tokenized prompts with a placeholder for each visual token.
        items: in the order of the prompts.
        attention_mask: `(batch, length)`, 0 where a prompt is padded; ones if not given.
        clips_apart: the model tells clips from pictures, as GLM-5.3-Flash alone does.

    Returns:
        `input_ids`, `attention_mask`, `mm_token_type_ids` (all int64 `(batch, length)`), `image_grid_thw` and
        `video_grid_thw` (int64 `(n, 3)`, each only if there is such an item) and `mm_encoder_outputs`, everything on
        the device of `input_ids`.

    Raises:
        ValueError: the prompts do not hold these items' placeholders in this order.
    """
    types = token_types(input_ids, ids)
    _check_places(types, items)
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids) if attention_mask is None else attention_mask,
        "mm_token_type_ids": types,
        **_grids(items, input_ids.device),
        "mm_encoder_outputs": _encoder_outputs_apart(types, items) if clips_apart else _encoder_outputs(types, items),
    }


def embedded_inputs(
    input_ids: Tensor,
    items: Sequence[StoredTokens],
    ids: PlaceholderIds,
    embed: Callable[[Tensor], Tensor],
    attention_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """The arguments of `forward` for releases without `mm_encoder_outputs`: everything embedded, with its positions.

    Args:
        embed: the language model's own embedding, `model.get_input_embeddings()`.

    Returns:
        `inputs_embeds` `(batch, length, dim)`, `attention_mask` int64 `(batch, length)` and `position_ids` int64
        `(3, batch, length)`: without `input_ids` the model cannot work its positions out.

    Raises:
        ValueError: the prompts do not hold these items' placeholders in this order.
    """
    types = token_types(input_ids, ids)
    _check_places(types, items)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    text = embed(input_ids)
    tokens = torch.cat([item.embeddings.to(text.device, text.dtype) for item in items]) if items else text[:0, 0]
    return {
        "inputs_embeds": text.masked_scatter((types != _TEXT).unsqueeze(-1), tokens),
        "attention_mask": mask,
        "position_ids": rotary_positions(types, items, mask),
    }


def token_types(input_ids: Tensor, ids: PlaceholderIds) -> Tensor:
    """`mm_token_type_ids`, int64 like `input_ids`: 0 text, 1 a picture's token, 2 a clip's."""
    in_video = (input_ids == ids.video_start).cumsum(-1) > (input_ids == ids.video_end).cumsum(-1)
    return (input_ids == ids.image) * torch.where(in_video, _VIDEO, _IMAGE)


def rotary_positions(types: Tensor, items: Sequence[StoredTokens], attention_mask: Tensor) -> Tensor:
    """Time, row and column of every token for the language model's rotary embedding, int64 `(3, batch, length)`.

    A frame's tokens share one time, and the text behind a frame goes on after its longer side.
    """
    frames = (frame for item in items for frame in item.frames)
    positions = torch.zeros(3, *types.shape, dtype=torch.int64)
    for row, (row_types, row_mask) in enumerate(zip(types.cpu(), attention_mask.cpu().bool(), strict=True)):
        positions[:, row, row_mask] = _row_positions(row_types[row_mask].tolist(), frames)
    return positions.to(types.device)


def _row_positions(types: list[int], frames: Iterator[Grid]) -> Tensor:
    parts, start = [], 0
    for kind, run in groupby(types):
        if kind == _TEXT:
            length = sum(1 for _ in run)
            parts.append((torch.arange(length) + start).expand(3, -1))
            start += length
        else:
            frame = next(frames)
            rows, columns = frame.h // MERGE_SIZE, frame.w // MERGE_SIZE
            axes = torch.meshgrid(torch.arange(1), torch.arange(rows), torch.arange(columns), indexing="ij")
            parts.append(torch.stack(axes).flatten(1) + start)
            start += max(rows, columns)
    return torch.cat(parts, dim=1)


def _grids(items: Sequence[StoredTokens], device: torch.device) -> dict[str, Tensor]:
    kinds = {
        "image_grid_thw": [item for item in items if not item.is_video],
        "video_grid_thw": [item for item in items if item.is_video],
    }
    return {name: grids_of(chosen).to(device) for name, chosen in kinds.items() if chosen}


def _encoder_outputs(types: Tensor, items: Sequence[StoredTokens]) -> dict[str, Features]:
    """All tokens of a prompt as one picture's.

    The models put pictures at every placeholder, those of clips included, and so fail where a prompt has both. And
    where a prompt is tried several times (beams, several answers) they repeat picture by picture instead of prompt by
    prompt, which takes several pictures out of order, and find no placeholder of a clip. One tensor for each prompt, in
    the order of its placeholders, is right in every case.
    """
    return {"image": _prompt_by_prompt(types != _TEXT, items)} if items else {}


def _encoder_outputs_apart(types: Tensor, items: Sequence[StoredTokens]) -> dict[str, Features]:
    pictures, clips = ([item for item in items if item.is_video == is_video] for is_video in (False, True))
    outputs = {}
    if pictures:
        outputs["image"] = _prompt_by_prompt(types == _IMAGE, pictures)
    if clips:
        outputs["video"] = _prompt_by_prompt(types == _VIDEO, clips)
    return outputs


def _prompt_by_prompt(places: Tensor, items: Sequence[StoredTokens]) -> Features:
    tokens = torch.cat([item.embeddings.to(places.device) for item in items])
    prompts = tokens.split(places.sum(-1).tolist())
    return Features(pooler_output=tuple(prompt for prompt in prompts if len(prompt)))


def _check_places(types: Tensor, items: Sequence[StoredTokens]) -> None:
    found = [(kind, sum(1 for _ in run)) for row in types.tolist() for kind, run in groupby(row) if kind != _TEXT]
    wanted = [(_VIDEO if item.is_video else _IMAGE, item.tokens_per_frame) for item in items for _ in item.frames]
    if found == wanted:
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    raise ValueError(
        f"the prompts hold {len(found)} frames and pictures, the items {len(wanted)}; number {place + 1} is"
        f" {_described(found, place)} in the prompts and {_described(wanted, place)} among the items: fill the prompts"
        " with prompts.fill_prompt, the items in the same order"
    )


def _described(places: list[tuple[int, int]], index: int) -> str:
    if index >= len(places):
        return "missing"
    kind, tokens = places[index]
    return f"{'a picture' if kind == _IMAGE else 'a frame'} of {tokens} tokens"
