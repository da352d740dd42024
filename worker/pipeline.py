"""One item's way: fetch, hash, reuse or decode and encode, store, record. Many walk it at once, each in a thread."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from glm4v_core.image_reading import looks_like_image
from worker.artefact import ArtefactWriter, new_artefact_key
from worker.decode import DecoderPool, Header
from worker.engine import Engine
from worker.errors import EmbedError, InternalError, TransientError, UnsupportedMedia
from worker.fingerprint import Recipe, Recipes
from worker.leases import Lease
from worker.limits import ByteBudget, KeyedLocks
from worker.logs import about
from worker.media import Fetcher, Media
from worker.recorder import Recorder
from worker.records import EmbeddingRecord, Outcome, Succeeded
from worker.retry import RetryPolicy
from worker.stages import Stages
from worker.storage import ObjectWriter, Storage
from worker.streaming import TokenStream

log = logging.getLogger(__name__)

#: Of BMP, PPM and bare JPEG 2000. No video begins with them.
_SHORT_SIGNATURES = (b"BM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"\xff\x4f\xff\x51")


class Embeddings(Protocol):
    """The part of the repository that knows what has been computed already."""

    def find_embedding(self, content_sha256: str, fingerprint: str) -> EmbeddingRecord | None: ...


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages, and what bounds them."""

    model: str
    fetcher: Fetcher
    embeddings: Embeddings
    recipes: Recipes
    decoders: DecoderPool
    engine: Engine
    budget: ByteBudget
    storage: Storage
    recorder: Recorder
    retry: RetryPolicy
    contents: KeyedLocks
    #: Told of every outcome that counts, in the thread of its item.
    observe: Callable[[Outcome], None]

    def run(self, lease: Lease) -> None:
        """Walk an item to its end and record what became of it. Raises nothing: an item's failure is its own."""
        stages = Stages()
        with about(lease.item):
            try:
                self._embed(lease, stages)
            except EmbedError as error:
                self._give_up(lease, error, stages)
            except Exception as error:
                log.exception("an error that no stage knows")
                self._give_up(lease, InternalError(f"Unexpected {type(error).__name__}: {error}."), stages)

    def _embed(self, lease: Lease, stages: Stages) -> None:
        lease.check()
        with ExitStack() as held:
            with stages.time("fetch"):
                media = held.enter_context(self.fetcher.fetch(lease.item.source, check=lease.check))
            with stages.time("wait"):
                # Two items with the same bytes at the same moment: the second finds what the first has recorded.
                held.enter_context(self.contents.hold(media.sha256, check=lease.check))
            embedding = self._find_or_make(media, lease, stages)
            self._record(Succeeded(item=lease.item, embedding=embedding, timings=stages.seconds()))

    def _find_or_make(self, media: Media, lease: Lease, stages: Stages) -> EmbeddingRecord:
        lease.check()
        kind = lease.item.kind if lease.item.kind is not MediaKind.AUTO else kind_of(media.head)
        recipe = self.recipes.recipe(kind, lease.item.options)
        with stages.time("lookup"):
            found = self.embeddings.find_embedding(media.sha256, recipe.fingerprint)
        try:
            return found or self._make(media, recipe, lease, stages)
        except UnsupportedMedia as error:
            if lease.item.kind is not MediaKind.AUTO:
                raise
            # The decoder knows only what it was asked for; whoever left the choice to us asked for either.
            raise UnsupportedMedia(f"{UnsupportedMedia().message} {error.message}") from error

    def _make(self, media: Media, recipe: Recipe, lease: Lease, stages: Stages) -> EmbeddingRecord:
        with ExitStack() as held:
            with stages.time("wait"):
                decoder = held.enter_context(self.decoders.reserve(check=lease.check))
            with stages.time("decode"):
                decoding = decoder.decode(media.path, recipe.kind, recipe.processor_settings)
            header = self._artefact_header(decoding.header, media, recipe)
            stream = TokenStream(decoding, self.engine, self.budget, dtype=recipe.dtype, lease=lease, stages=stages)
            key = new_artefact_key(recipe.fingerprint, media.sha256)
            with stages.time("store"):
                output = held.enter_context(self.storage.writer(key))
                artefact = ArtefactWriter(output, header)
            with closing(stream.tokens()) as tokens:
                for part in tokens:
                    with stages.time("store"):
                        artefact.write(part.data, part.scales)
            artefact.finish()
            media.check_unchanged()
            lease.check()
            with stages.time("store"):
                # The end of the writer's block makes the object visible.
                held.close()
        return embedding_record(header, key, output)

    def _artefact_header(self, decoded: Header, media: Media, recipe: Recipe) -> ArtefactHeader:
        t, h, w = decoded.grid_thw
        return ArtefactHeader(
            kind=recipe.kind,
            model=self.model,
            fingerprint=recipe.fingerprint,
            content_sha256=media.sha256,
            dtype=recipe.dtype,
            num_tokens=t * h * w // self.engine.encoder.patches_per_token,
            dim=self.engine.encoder.dim,
            grid_thw=decoded.grid_thw,
            timestamps=decoded.timestamps,
            frame_indices=decoded.frame_indices,
        )

    def _give_up(self, lease: Lease, error: EmbedError, stages: Stages) -> None:
        chance = random.random()
        outcome = self.retry.outcome(lease.item, error, stages.seconds(), chance=chance)
        log.info("%s: %s", error.code, error.message)
        self._record(outcome)

    def _record(self, outcome: Outcome) -> None:
        try:
            recorded = self.recorder.record(outcome).result()
        except TransientError:
            # The recorder has said so. The lease runs out, and the item is tried again.
            return
        if outcome.item.id in recorded.accepted:
            self.observe(outcome)
        if isinstance(outcome, Succeeded) and outcome.embedding.object_key in recorded.unused_objects:
            self._delete(outcome.embedding.object_key)

    def _delete(self, key: str) -> None:
        try:
            self.storage.delete(key)
        except TransientError as error:
            log.warning("%s is left for the audit to remove: %s", key, error.message)


def kind_of(head: bytes) -> MediaKind:
    """Tell an image from a video by its first bytes; what is neither is found out when it is decoded."""
    is_image = looks_like_image(head) or head.startswith(_SHORT_SIGNATURES)
    return MediaKind.IMAGE if is_image else MediaKind.VIDEO


def embedding_record(header: ArtefactHeader, key: str, output: ObjectWriter) -> EmbeddingRecord:
    """What is recorded of an artefact that was stored."""
    return EmbeddingRecord(
        content_sha256=header.content_sha256,
        fingerprint=header.fingerprint,
        kind=header.kind,
        object_key=key,
        grid_thw=header.grid_thw,
        timestamps=header.timestamps,
        frame_indices=header.frame_indices,
        num_tokens=header.num_tokens,
        dim=header.dim,
        dtype=header.dtype,
        byte_size=output.size,
        object_sha256=output.sha256,
    )
