"""A Parquet shard: one row an item, its tokens as the artefact's own bytes. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from glm4v_client.artefact import Artefact, ArtefactHeader
from glm4v_client.exported_item import Exportable, describe
from glm4v_client.states import MediaKind
from glm4v_client.visual_tokens import VisualTokens
from glm4v_client.whole_file import whole_file

SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("position", pa.int64()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("model", pa.string()),
        ("fingerprint", pa.string()),
        ("content_sha256", pa.string()),
        ("grid_thw", pa.list_(pa.int64())),
        ("timestamps", pa.list_(pa.float64())),
        ("frame_indices", pa.list_(pa.int64())),
        ("num_tokens", pa.int64()),
        ("dim", pa.int64()),
        ("dtype", pa.string()),
        # Parquet has neither bfloat16 nor float8: rows are kept as they are stored.
        ("embeddings", pa.large_binary()),
        ("scales", pa.binary()),
    ]
)
#: What a reader holds at least of a file, and this writer at most before the last row.
_ROW_GROUP_BYTES = 64 * 2**20
#: Tokens do not compress, and no two are equal.
_AS_THEY_ARE = ("embeddings", "scales")


def artefact_of(row: Mapping[str, Any]) -> Artefact:
    """A row back as an artefact, of which glm4v_client.restoring makes arrays."""
    header = ArtefactHeader(
        kind=MediaKind(row["kind"]),
        model=row["model"],
        fingerprint=row["fingerprint"],
        content_sha256=row["content_sha256"],
        dtype=row["dtype"],
        num_tokens=row["num_tokens"],
        dim=row["dim"],
        grid_thw=tuple(row["grid_thw"]),
        timestamps=None if row["timestamps"] is None else tuple(row["timestamps"]),
        frame_indices=None if row["frame_indices"] is None else tuple(row["frame_indices"]),
    )
    return Artefact(header=header, embeddings=row["embeddings"], scales=row["scales"] or b"")


@contextmanager
def open_parquet_shard(path: Path) -> Iterator[ParquetShard]:
    """A shard that gets its name when the block ends well."""
    named = [name for name in SCHEMA.names if name not in _AS_THEY_ARE]
    compression = {name: "none" if name in _AS_THEY_ARE else "zstd" for name in SCHEMA.names}
    with (
        whole_file(path) as file,
        pq.ParquetWriter(file, SCHEMA, compression=compression, use_dictionary=named, write_statistics=named) as writer,
    ):
        shard = ParquetShard(writer)
        yield shard
        shard.flush()


class ParquetShard:
    """A Parquet file that is being written, a row group at a time."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._rows: list[dict[str, Any]] = []
        self._waiting = 0
        self.size = 0

    def add(self, item: Exportable, tokens: VisualTokens) -> None:
        artefact = tokens.artefact
        binary = {"embeddings": bytes(artefact.embeddings), "scales": bytes(artefact.scales) or None}
        self._rows.append(describe(item, tokens) | binary)
        self._waiting += len(tokens.content)
        self.size += len(tokens.content)
        if self._waiting >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as one row group."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows, self._waiting = [], 0
