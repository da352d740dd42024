"""What a job may ask of its embeddings; part of each embedding's fingerprint."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

#: Number formats that a model computes in.
Dtype = Literal["bfloat16", "float16", "float32"]
#: Number formats of stored tokens. The last two take half of bfloat16's room and keep one scale for each token.
StoredDtype = Literal["bfloat16", "float16", "float32", "float8_e4m3", "int8"]

#: One visual token covers 2 x 2 patches of 14 x 14 pixels; no picture becomes smaller than that.
PIXELS_PER_TOKEN = 28 * 28

#: Above this a number of pixels is a typing mistake, and the resize arithmetic would leave exact integers.
MOST_PIXELS = 2**31 - 1


def _whole(value: object) -> object:
    """To JSON 2.0 is an integer as much as 2 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Pixels = Annotated[int, Field(ge=PIXELS_PER_TOKEN, le=MOST_PIXELS), BeforeValidator(_whole)]


class EmbedOptions(BaseModel):
    """Bounds on the tokens of an item, and so on its storage. What is not set is as the checkpoint ships it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    min_pixels: Pixels | None = Field(None, description="pixels of one frame after resizing, at least")
    max_pixels: Pixels | None = Field(None, description="pixels of one frame after resizing, at most")
    fps: Annotated[float, Field(gt=0, le=240)] | None = Field(None, description="frames sampled per second of video")
    max_frames: Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_whole)] | None = Field(
        None, description="frames sampled per video, at most: more are thinned out evenly"
    )
    dtype: StoredDtype | None = Field(
        None, description="number format of the stored tokens; the worker's own if not set"
    )

    @model_validator(mode="after")
    def _bounds_do_not_cross(self) -> Self:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is above max_pixels ({self.max_pixels})")
        return self

    def canonical(self) -> dict[str, Any]:
        """The options that are set, by name: equal for equal options, ready for JSON and for a digest."""
        return self.model_dump(exclude_none=True)
