"""A WebDataset shard: a tar file in which `00000007.safetensors` and `00000007.json` are one sample.

webdataset.WebDataset("job-*.tar").map(lambda sample: VisualTokens(sample["safetensors"]).to_torch())
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glm4v_client.exported_item import Exportable, describe
from glm4v_client.visual_tokens import VisualTokens
from glm4v_client.whole_file import whole_file


@contextmanager
def open_webdataset_shard(path: Path) -> Iterator[WebDatasetShard]:
    """A shard that gets its name when the block ends well."""
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        yield WebDatasetShard(tar)


class WebDatasetShard:
    """A tar file that is being written: the same items give the same bytes."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.size = 0

    def add(self, item: Exportable, tokens: VisualTokens) -> None:
        # Readers take what comes before the first dot for the sample's name.
        name = f"{item.position:08}"
        self._member(f"{name}.safetensors", tokens.content)
        self._member(f"{name}.json", json.dumps(describe(item, tokens)).encode())
        self.size += len(tokens.content)

    def _member(self, name: str, content: bytes | bytearray) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
