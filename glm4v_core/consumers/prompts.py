"""Pictures and clips as a prompt's text: one placeholder for each token, and when each frame is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from glm4v_core.consumers.stored_tokens import StoredTokens

IMAGE_START, IMAGE, IMAGE_END = "<|begin_of_image|>", "<|image|>", "<|end_of_image|>"
VIDEO_START, VIDEO, VIDEO_END = "<|begin_of_video|>", "<|video|>", "<|end_of_video|>"

#: How a model writes a frame's time. "whole": GLM-4.1V and GLM-4.5V, whose processor is `Glm4vProcessor`. "tenths":
#: GLM-4.6V, GLM-4.6V-Flash, GLM-OCR and GLM-5.3-Flash (`Glm46VProcessor`, `Glm5NextProcessor`).
Seconds = Literal["whole", "tenths"]


def image_part(item: StoredTokens) -> str:
    """A picture between its begin and end tokens.

    Raises:
        ValueError: the item is a clip.
    """
    _check_kind(item, is_video=False)
    return f"{IMAGE_START}{IMAGE * item.tokens_per_frame}{IMAGE_END}"


def video_part(item: StoredTokens, seconds: Seconds) -> str:
    """A clip between its begin and end tokens: each temporal patch a picture, followed by its time.

    Raises:
        ValueError: the item is a picture.
    """
    return f"{VIDEO_START}{_frames(item, seconds)}{VIDEO_END}"


def fill_prompt(text: str, items: Sequence[StoredTokens], seconds: Seconds) -> str:
    """Give a rendered chat template its placeholders, as the model's processor would.

    Args:
        text: with one `<|image|>` for each picture and one `<|video|>` for each clip, their begin and end tokens about
            them, as the models' chat templates write them.
        items: in the order of the text.

    Raises:
        ValueError: the text and the items do not go together.
    """
    places = re.findall(f"{re.escape(IMAGE)}|{re.escape(VIDEO)}", text)
    if len(places) != len(items):
        raise ValueError(f"the text has places for {len(places)} pictures and clips, but {len(items)} items were given")
    remaining = iter(items)

    def fill(place: re.Match[str]) -> str:
        item = next(remaining)
        if place[0] == VIDEO:
            return _frames(item, seconds)
        _check_kind(item, is_video=False)
        return IMAGE * item.tokens_per_frame

    return re.sub(f"{re.escape(IMAGE)}|{re.escape(VIDEO)}", fill, text)


def _frames(item: StoredTokens, seconds: Seconds) -> str:
    _check_kind(item, is_video=True)
    frame = f"{IMAGE_START}{IMAGE * item.tokens_per_frame}{IMAGE_END}"
    return "".join(frame + _time(second, seconds) for second in item.timestamps or ())


def _time(second: float, seconds: Seconds) -> str:
    return str(int(second)) if seconds == "whole" else f"{second:.1f} seconds"


def _check_kind(item: StoredTokens, *, is_video: bool) -> None:
    if item.is_video != is_video:
        wanted, found = ("a clip", "a picture") if is_video else ("a picture", "a clip")
        raise ValueError(f"the prompt has a place for {wanted}, but the item of grid {item.grid_thw} is {found}")
