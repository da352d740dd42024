"""A checkpoint's preprocessing settings, found among the files that different versions of transformers write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from glm4v_core.canvas import Fit
from glm4v_core.sampling import Sampler

IMAGE_FILE = "preprocessor_config.json"
VIDEO_FILE = "video_preprocessor_config.json"
#: transformers 5 nests the settings of every kind in this one file; where it does, it goes before the others.
NESTED_FILE = "processor_config.json"


class _Family(NamedTuple):
    """What the name of a processor's class in transformers says without words."""

    fit: Fit
    sampler: Sampler


# By what the classes' names begin with.
_FAMILIES = {
    "Glm4v": _Family("stretch", "glm4v"),
    "Glm46V": _Family("stretch", "glm46v"),
    "Glm5Next": _Family("pad", "glm5_next"),
}
# By a model's type, where no file names a class; the rest have GLM-4.1V's.
_FAMILIES_BY_MODEL = {"glm46v": "Glm46V", "glm_ocr": "Glm46V", "glm5_next": "Glm5Next"}

# GLM-5.3-Flash bounds tokens instead of pixels; these are transformers' defaults.
_TOKENS = {"Image": (16, 8_000), "Video": (16, 240_000)}
# Settings of GLM-5.3-Flash that are known with these values only.
_FIXED = {"patch_expand_factor": 1, "max_frames": 2048, "max_duration": 0}


def read_image_settings(path: str | Path) -> dict[str, Any]:
    """Read the image settings of a checkpoint directory, or of one JSON file, with `fit` by the processor's type.

    Raises:
        FileNotFoundError: the directory has none of the files; the message names them.
        ValueError: a file is not a JSON object, or the settings are another model's.
    """
    settings = _read(Path(path), "image_processor", [IMAGE_FILE])
    name = settings.get("image_processor_type") or _type_by_model(path, "Image")
    return _translated(settings, name, "Image", path)


def read_video_settings(path: str | Path) -> dict[str, Any]:
    """Read the video settings of a checkpoint directory, or of one JSON file; older ones share the image file.

    `fit` and `sampler` are added by the processor's type; where the settings do not name it, by the image processor's
    or by the model's `config.json`.

    Raises:
        FileNotFoundError: the directory has none of the files; the message names them.
        ValueError: a file is not a JSON object, or the settings are another model's.
    """
    settings = _read(Path(path), "video_processor", [VIDEO_FILE, IMAGE_FILE])
    image_name = settings.get("image_processor_type") or _type_by_model(path, "Image")
    name = settings.get("video_processor_type") or image_name.replace("ImageProcessor", "VideoProcessor")
    return _translated(settings, name, "Video", path)


def default_settings(tower: str, geometry: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Image and video settings of a tower that comes without files; glm4v_vision's are GLM-4.1V's.

    Args:
        geometry: `patch_size`, `merge_size` and `temporal_patch_size`.
    """
    family = _FAMILIES_BY_MODEL.get(tower.removesuffix("_vision"), "Glm4v")
    image, video = (_translated(geometry, f"{family}{kind}Processor", kind, "the tower") for kind in _TOKENS)
    return image, video


def image_file(settings: Mapping[str, Any]) -> dict[str, Any]:
    """An image processor's settings as `preprocessor_config.json` spells them."""
    family = next(name for name, family in _FAMILIES.items() if family.fit == settings["fit"])
    return _as_file(settings, family, "Image")


def video_file(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A video processor's settings as `video_preprocessor_config.json` spells them."""
    family = next(name for name, family in _FAMILIES.items() if family.sampler == settings["sampler"])
    return _as_file(settings, family, "Video")


def _translated(settings: Mapping[str, Any], name: str, kind: str, path: str | Path) -> dict[str, Any]:
    """The settings as ours, those included that a processor's type stands for."""
    family = name.removesuffix("Fast").removesuffix("Pil").removesuffix(f"{kind}Processor")
    if family not in _FAMILIES:
        readable = " and ".join(f"{known}{kind}Processor" for known in _FAMILIES)
        raise ValueError(f"{path} is for a {name}; this one reads {readable}")
    translated = {**settings, "fit": _FAMILIES[family].fit}
    if kind == "Video":
        translated["sampler"] = _FAMILIES[family].sampler
    if family == "Glm5Next":
        translated["size"] = _size_of_tokens(settings, kind, path)
        translated = {name: value for name, value in translated.items() if name not in _FIXED}
    return translated


def _size_of_tokens(settings: Mapping[str, Any], kind: str, path: str | Path) -> dict[str, int]:
    for name, value in _FIXED.items():
        if settings.get(name) not in (None, value):
            raise ValueError(f"{path} sets {name} to {settings[name]}: only {value} is supported")
    fewest, most = _TOKENS[kind]
    pixels = _pixels_per_token(settings)
    return {
        "shortest_edge": settings.get("min_image_tokens", fewest) * pixels,
        "longest_edge": settings.get("max_image_tokens", most) * pixels,
    }


def _as_file(settings: Mapping[str, Any], family: str, kind: str) -> dict[str, Any]:
    values = {name: value for name, value in settings.items() if name not in ("fit", "sampler")}
    values[f"{kind.lower()}_processor_type"] = f"{family}{kind}Processor"
    if family == "Glm5Next":
        pixels = _pixels_per_token(settings)
        values |= {
            "min_image_tokens": settings["size"]["shortest_edge"] // pixels,
            "max_image_tokens": settings["size"]["longest_edge"] // pixels,
        }
        # Their own `size` holds nothing, and ours of the duration is another sampler's.
        values = {name: value for name, value in values.items() if name not in ("size", "max_duration")}
    return {name: value for name, value in values.items() if value is not None}


def _pixels_per_token(settings: Mapping[str, Any]) -> int:
    cell: int = settings.get("patch_size", 14) * settings.get("merge_size", 2)
    return int(settings.get("temporal_patch_size", 2)) * cell**2


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


def _type_by_model(path: str | Path, kind: str) -> str:
    config = Path(path) / "config.json"
    model_type = _load(config).get("model_type", "") if config.is_file() else ""
    return f"{_FAMILIES_BY_MODEL.get(model_type, 'Glm4v')}{kind}Processor"
