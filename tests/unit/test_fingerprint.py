from __future__ import annotations

from typing import Any

import pytest

from glm4v_client.states import MediaKind
from tests.fake_encoder import FakeEncoder
from worker.fingerprint import Recipes


def fingerprint(
    kind: MediaKind = MediaKind.IMAGE,
    *,
    model: str = "m",
    dtype: Any = "bfloat16",
    weights: str = "w",
    **options: Any,
) -> str:
    encoder = FakeEncoder()
    encoder.identity = {"weights_sha256": weights}
    return Recipes(model=model, encoder=encoder, dtype=dtype).recipe(kind, options).fingerprint


def test_everything_that_decides_the_values_decides_the_fingerprint() -> None:
    different = [
        fingerprint(),
        fingerprint(MediaKind.VIDEO),
        fingerprint(model="other"),
        fingerprint(weights="other"),
        fingerprint(dtype="float32"),
        fingerprint(max_pixels=10_000),
        fingerprint(min_pixels=10_000),
        fingerprint(MediaKind.VIDEO, fps=1.0),
        fingerprint(MediaKind.VIDEO, max_frames=8),
    ]
    assert len(set(different)) == len(different)
    assert all(len(each) == 64 for each in different)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (fingerprint(), fingerprint()),
        (fingerprint(max_pixels=9_000, min_pixels=8_000), fingerprint(min_pixels=8_000, max_pixels=9_000)),
    ],
)
def test_what_makes_no_difference_makes_none_to_the_fingerprint(one: str, other: str) -> None:
    assert one == other


def test_options_of_clips_do_not_touch_images() -> None:
    assert fingerprint(fps=1.0, max_frames=8) == fingerprint()


def test_the_dtype_of_an_option_wins_over_the_workers() -> None:
    recipes = Recipes(model="m", encoder=FakeEncoder(), dtype="bfloat16")
    assert recipes.recipe(MediaKind.IMAGE, {"dtype": "float32"}).dtype == "float32"
    assert recipes.recipe(MediaKind.IMAGE, {}).dtype == "bfloat16"
