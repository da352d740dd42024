"""Preprocessing settings as they lie in checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glm4v_core.processing import TRANSFORMERS_IMAGE_SIZE, Glm4vImageProcessor, Glm4vVideoProcessor


def write(directory: Path, name: str, **values: Any) -> Path:
    path = directory / name
    path.write_text(json.dumps(values))
    return path


def test_settings_are_read_from_a_checkpoint(tmp_path: Path) -> None:
    write(
        tmp_path,
        "preprocessor_config.json",
        size={"shortest_edge": 12544, "longest_edge": 500_000},
        image_mean=[0.1, 0.2, 0.3],
        image_processor_type="Glm4vImageProcessorFast",
        processor_class="Glm4vProcessor",
        data_format="channels_first",
        max_pixels=1,
    )
    processor = Glm4vImageProcessor.from_pretrained(tmp_path)
    assert processor.size["longest_edge"] == 500_000
    assert processor.image_mean == (0.1, 0.2, 0.3)
    assert processor.max_pixels is None


def test_a_file_without_a_size_means_transformers_own(tmp_path: Path) -> None:
    path = write(tmp_path, "preprocessor_config.json", do_resize=True, size=None)
    assert Glm4vImageProcessor.from_pretrained(path).size == TRANSFORMERS_IMAGE_SIZE


def test_nested_settings_go_before_the_older_files(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", patch_size=7)
    write(tmp_path, "video_preprocessor_config.json", patch_size=7)
    nested = {"image_processor": {"patch_size": 16}, "video_processor": {"patch_size": 12}}
    path = write(tmp_path, "processor_config.json", **nested)
    assert Glm4vImageProcessor.from_pretrained(tmp_path).patch_size == 16
    assert Glm4vVideoProcessor.from_pretrained(tmp_path).patch_size == 12
    assert Glm4vVideoProcessor.from_pretrained(path).patch_size == 12


def test_a_processor_file_without_nested_settings_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "processor_config.json", processor_class="Glm4vProcessor")
    write(tmp_path, "preprocessor_config.json", patch_size=7)
    assert Glm4vImageProcessor.from_pretrained(tmp_path).patch_size == 7
    assert Glm4vVideoProcessor.from_pretrained(tmp_path).patch_size == 7


@pytest.mark.parametrize(
    ("files", "sampler"),
    [
        ({"video_preprocessor_config.json": {"video_processor_type": "Glm46VVideoProcessor", "fps": 2}}, "glm46v"),
        ({"video_preprocessor_config.json": {"video_processor_type": "Glm4vVideoProcessor", "fps": 2}}, "glm4v"),
        ({"preprocessor_config.json": {"image_processor_type": "Glm46VImageProcessorFast"}}, "glm46v"),
        ({"video_preprocessor_config.json": {}, "config.json": {"model_type": "glm46v"}}, "glm46v"),
        ({"video_preprocessor_config.json": {}, "config.json": {"model_type": "glm4v_moe"}}, "glm4v"),
        ({"video_preprocessor_config.json": {}}, "glm4v"),
        ({"preprocessor_config.json": {}, "config.json": {"model_type": "glm_ocr"}}, "glm46v"),
        ({"video_preprocessor_config.json": {"video_processor_type": "Glm5NextVideoProcessor"}}, "glm5_next"),
        ({"video_preprocessor_config.json": {}, "config.json": {"model_type": "glm5_next"}}, "glm5_next"),
    ],
)
def test_the_sampler_is_the_one_the_checkpoint_names(
    tmp_path: Path, files: dict[str, dict[str, Any]], sampler: str
) -> None:
    for name, values in files.items():
        write(tmp_path, name, **values)
    assert Glm4vVideoProcessor.from_pretrained(tmp_path).sampler == sampler


def test_glm_5_3_flash_bounds_tokens_and_pads(tmp_path: Path) -> None:
    write(
        tmp_path,
        "preprocessor_config.json",
        image_processor_type="Glm5NextImageProcessor",
        size={"longest_edge": 1},
        max_image_tokens=100,
        patch_expand_factor=1,
    )
    write(
        tmp_path,
        "video_preprocessor_config.json",
        video_processor_type="Glm5NextVideoProcessor",
        max_duration=0,
        max_frames=2048,
    )
    image, video = Glm4vImageProcessor.from_pretrained(tmp_path), Glm4vVideoProcessor.from_pretrained(tmp_path)
    assert (image.fit, video.fit, video.sampler) == ("pad", "pad", "glm5_next")
    assert image.size == {"shortest_edge": 16 * 2 * 28**2, "longest_edge": 100 * 2 * 28**2}
    assert video.size == {"shortest_edge": 16 * 2 * 28**2, "longest_edge": 240_000 * 2 * 28**2}
    # Nine cells by nine hold it without a change of scale; stretched to whole cells it would be eight by eight.
    assert image.count_image_tokens(230, 230) == 81


@pytest.mark.parametrize(("name", "value"), [("patch_expand_factor", 2), ("max_frames", 640), ("max_duration", 300)])
def test_settings_of_glm_5_3_flash_that_would_change_its_frames_are_refused(
    tmp_path: Path, name: str, value: int
) -> None:
    settings = {"video_processor_type": "Glm5NextVideoProcessor", name: value}
    path = write(tmp_path, "video_preprocessor_config.json", **settings)
    with pytest.raises(ValueError, match=f"sets {name} to {value}"):
        Glm4vVideoProcessor.from_pretrained(path)


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown fit 'squeeze': choose one of stretch, pad"):
        Glm4vImageProcessor(fit="squeeze")  # type: ignore[arg-type]


def test_another_models_settings_are_refused(tmp_path: Path) -> None:
    image = write(tmp_path, "preprocessor_config.json", image_processor_type="Qwen2VLImageProcessor")
    video = write(tmp_path, "video_preprocessor_config.json", video_processor_type="GlmgaVideoProcessor")
    with pytest.raises(ValueError, match="is for a Qwen2VLImageProcessor"):
        Glm4vImageProcessor.from_pretrained(image)
    with pytest.raises(ValueError, match="is for a GlmgaVideoProcessor"):
        Glm4vVideoProcessor.from_pretrained(video)


def test_a_directory_without_settings_is_an_error_that_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected preprocessor_config\.json or processor_config\.json"):
        Glm4vImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):
        Glm4vImageProcessor.from_pretrained(tmp_path)
