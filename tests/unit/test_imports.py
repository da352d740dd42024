"""What an import brings along, seen in a fresh interpreter: static import rules do not see what runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import glm4v_core


def modules_after(statement: str) -> set[str]:
    program = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(result.stdout))


@pytest.mark.parametrize(
    "module",
    [
        "api.application",
        "glm4v_core.config",
        "glm4v_core.image_reading",
        "worker.celery",
        "worker.cli",
        "worker.dispatch",
        "worker.minio_storage",
        "worker.picture",
        "worker.reconcile",
        "worker.repository",
        "worker.runtime",
        "worker.settings",
        "worker.storage",
        "worker.tasks",
    ],
)
def test_torch_is_not_loaded_by_what_only_talks_to_people_and_servers(module: str) -> None:
    assert not modules_after(f"import {module}") & {"torch", "torchvision", "transformers"}


def test_the_encoder_is_loaded_without_the_service_or_transformers() -> None:
    loaded = modules_after("from glm4v_core import GLM4VEmbeddingPipeline")

    assert "torch" in loaded
    assert not loaded & {"worker", "celery", "sqlalchemy", "transformers"}


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    for name in glm4v_core.__all__:
        assert getattr(glm4v_core, name).__name__ == name
    assert glm4v_core.__all__ == sorted(glm4v_core.__all__)
    assert set(dir(glm4v_core)) == set(glm4v_core.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Glm5vVisionModel"):
        _ = glm4v_core.Glm5vVisionModel
