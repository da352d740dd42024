from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from glm4v_client.artefact import Artefact, ArtefactHeader
from glm4v_client.states import MediaKind
from worker.heat import draw_strip, heat_colours
from worker.portrait import draw_portrait, similarity_over_time
from worker.terminal_picture import terminal_picture

DIM = 8


def artefact(tokens: np.ndarray, grid: tuple[int, int, int]) -> Artefact:
    video = grid[0] > 1
    header = ArtefactHeader(
        kind=MediaKind.VIDEO if video else MediaKind.IMAGE,
        model="m",
        fingerprint="f",
        content_sha256="c",
        dtype="float32",
        num_tokens=len(tokens),
        dim=DIM,
        grid_thw=grid,
        timestamps=tuple(float(second) for second in range(grid[0])) if video else None,
    )
    return Artefact(header=header, embeddings=tokens.astype("<f4").tobytes())


def halves(count: int) -> np.ndarray:
    """Tokens of two kinds, the second one twice as long as the first."""
    tokens = np.zeros((count, DIM), np.float32)
    tokens[: count // 2, 0], tokens[count // 2 :, 1] = 1.0, 2.0
    return tokens


def test_like_tokens_have_one_colour_and_long_ones_are_the_brighter() -> None:
    picture = draw_portrait(artefact(halves(4 * 6), (1, 8, 12)))
    # Two maps side by side of 480 pixels each; their upper halves and their lower ones.
    left, right = (np.asarray(picture)[50:330, begin : begin + 470] for begin in (20, 510))
    for map_ in (left, right):
        assert len({tuple(pixel) for pixel in map_[:100:20, ::50].reshape(-1, 3)}) == 1
        assert tuple(map_[20, 20]) != tuple(map_[-20, 20])
    assert right[-20, 20].sum() > right[20, 20].sum()


def test_likeness_falls_where_the_clip_changes() -> None:
    frames = np.repeat(np.eye(DIM, dtype=np.float32)[[0, 0, 1, 1]], 6, axis=0).reshape(4, 6, DIM)
    frames[3] *= 5.0

    np.testing.assert_allclose(similarity_over_time(frames), [1.0, 0.0, 1.0], atol=1e-6)


def test_a_token_of_zeros_is_like_nothing() -> None:
    assert similarity_over_time(np.zeros((2, 3, DIM), np.float32)).tolist() == [0.0]


@pytest.mark.parametrize("frames", [1, 2, 7, 300])
def test_clips_of_any_length_fit_a_picture(frames: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(frames * 6, DIM))
    header_video = artefact(tokens, (max(frames, 2), 4, 6)) if frames > 1 else artefact(tokens, (1, 4, 6))
    picture = draw_portrait(header_video)
    assert picture.width <= 1300
    assert picture.height <= 1700


def test_tokens_that_do_not_fill_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="has 24 tokens, but 20 were given"):
        draw_portrait(artefact(halves(20), (1, 8, 12)))


def test_tokens_that_are_no_numbers_are_drawn_as_zeros_and_counted() -> None:
    tokens = halves(4 * 6)
    tokens[[3, 9], 2] = np.nan, np.inf
    tokens[5, 5] = 3e38
    whole, part = draw_portrait(artefact(halves(4 * 6), (1, 8, 12))), draw_portrait(artefact(tokens, (1, 8, 12)))
    assert part.height > whole.height


def test_colours_go_from_dark_to_bright_and_a_constant_is_in_the_middle() -> None:
    brightness = heat_colours(np.linspace(0, 1, 50, dtype=np.float32), 0, 1).sum(axis=-1, dtype=int)
    assert (np.diff(brightness) >= 0).all()
    assert (
        heat_colours(np.ones(3, np.float32), 1, 1).tolist() == heat_colours(np.full(3, 0.5, np.float32), 0, 1).tolist()
    )


def test_a_strip_is_taller_where_there_is_more() -> None:
    strip = np.asarray(draw_strip(np.array([0.0, 1.0], np.float32), 40, 30, 0, 1))
    background = strip[0, 0]
    assert (strip[:, 5] != background).any(axis=1).sum() < 5
    assert (strip[:, 35] != background).any(axis=1).all()


def test_the_terminal_shows_two_rows_of_tokens_in_each_line(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=100)
    text = terminal_picture(artefact(halves(8 * 8), (1, 16, 16)))
    console.print(text)
    assert len(text.plain.splitlines()) == 32
    assert "\x1b[38;2;" in console.file.getvalue()  # type: ignore[attr-defined]
