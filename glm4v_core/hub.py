"""From a model's name to a local directory that holds its configuration and its vision tower."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from glm4v_core.weights import INDEX_NAME, WEIGHTS_NAME, CheckpointError, visual_shards

_CONFIGURATIONS = ["config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"]


def fetch_checkpoint(name: str | Path, revision: str | None = None) -> Path:
    """The directory itself, or the hub's model of that name, downloaded into the hub's cache.

    Of a sharded model only the shards that hold the tower are downloaded, with a progress bar; a broken download goes
    on where it stopped.

    Raises:
        CheckpointError: it is neither a directory nor a model that the hub gives out; the message says what to do.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        directory = Path(snapshot_download(str(name), revision=revision, allow_patterns=[*_CONFIGURATIONS, INDEX_NAME]))
        weights = [WEIGHTS_NAME]
        if (directory / INDEX_NAME).is_file():
            weights = visual_shards(json.loads((directory / INDEX_NAME).read_text())["weight_map"])
        return Path(
            snapshot_download(str(name), revision=revision, allow_patterns=[*_CONFIGURATIONS, INDEX_NAME, *weights])
        )
    except HFValidationError as error:
        raise CheckpointError(
            f"no directory {name!s}, and that is not the form of a hub id such as 'zai-org/GLM-4.1V-9B-Thinking'"
        ) from error
    except GatedRepoError as error:
        raise CheckpointError(f"{name} is gated: accept its terms on its page, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{name} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"no directory {name!s}, and the hub has no model of that name that you may read"
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"no directory {name!s}, and the hub cannot be reached: check the network, or pass the model's directory"
        ) from error
    except HfHubHTTPError as error:
        raise CheckpointError(f"the hub refused {name}: {error}") from error
