"""Small artefacts, whose numbers are known from a text."""

from __future__ import annotations

import hashlib
import io

from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from worker.artefact import ArtefactWriter


def artefact_of(source: str) -> bytes:
    """The artefact of an image of 4 tokens by 8 numbers, made of the digest of its source."""
    digest = hashlib.sha256(source.encode()).digest()
    return write_artefact(
        ArtefactHeader(
            kind=MediaKind.IMAGE,
            model="random:tiny",
            fingerprint="f" * 64,
            content_sha256=digest.hex(),
            dtype="bfloat16",
            num_tokens=4,
            dim=8,
            grid_thw=(1, 4, 4),
        ),
        2 * digest,
    )


def write_artefact(header: ArtefactHeader, rows: bytes) -> bytes:
    output = io.BytesIO()
    writer = ArtefactWriter(output, header)
    writer.write(rows)
    writer.finish()
    return output.getvalue()
