"""Finding a checkpoint's preprocessing settings among the files that different versions of transformers write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IMAGE_FILE = "preprocessor_config.json"
VIDEO_FILE = "video_preprocessor_config.json"
#: transformers 5 nests the settings of every kind in this one file; where it does, it goes before the others.
NESTED_FILE = "processor_config.json"


def read_image_settings(path: str | Path) -> dict[str, Any]:
    """Read the image settings of a checkpoint directory, or of one JSON file.

    Raises:
        FileNotFoundError: the directory has none of the files; the message names them.
        ValueError: a file is not a JSON object.
    """
    return _read(Path(path), "image_processor", [IMAGE_FILE])


def read_video_settings(path: str | Path) -> dict[str, Any]:
    """Read the video settings of a checkpoint directory, or of one JSON file; older ones share the image file.

    The key `video_processor_type` is filled in from the image processor's, or from the model's `config.json`,
    where the settings do not have it.

    Raises:
        FileNotFoundError: the directory has none of the files; the message names them.
        ValueError: a file is not a JSON object.
    """
    settings = _read(Path(path), "video_processor", [VIDEO_FILE, IMAGE_FILE])
    if not settings.get("video_processor_type"):
        image_type = settings.get("image_processor_type") or ""
        settings["video_processor_type"] = image_type.replace("ImageProcessor", "VideoProcessor") or _by_model(
            Path(path)
        )
    return settings


def _read(path: Path, nested_key: str, names: list[str]) -> dict[str, Any]:
    if path.is_file():
        settings = _load(path)
        return dict(settings.get(nested_key, settings))
    if (path / NESTED_FILE).is_file():
        nested = _load(path / NESTED_FILE)
        if nested_key in nested:
            return dict(nested[nested_key])
    for name in names:
        if (path / name).is_file():
            return _load(path / name)
    raise FileNotFoundError(f"{path} has no preprocessing settings: expected {' or '.join([*names, NESTED_FILE])}")


def _load(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds a {type(settings).__name__}, expected an object of settings")
    return settings


def _by_model(path: Path) -> str | None:
    config = path / "config.json"
    model_type = _load(config).get("model_type", "") if config.is_file() else ""
    return {"glm46v": "Glm46VVideoProcessor"}.get(model_type)
