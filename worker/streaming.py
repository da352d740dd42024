"""One item's chunks through the engine: several under way at once, at bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from glm4v_client.artefact import ITEM_BYTES
from glm4v_client.options import StoredDtype
from worker.decode import Decoding
from worker.encoding import EncodeRequest, Tokens
from worker.engine import Engine
from worker.leases import Lease
from worker.limits import ByteBudget
from worker.stages import Stages


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    tokens: Future[Tokens]
    #: Bytes of its patches and of its tokens, taken from the budget.
    cost: int


class TokenStream:
    """Reads chunks of patches, has them encoded, and hands over their tokens in order."""

    def __init__(
        self,
        decoding: Decoding,
        engine: Engine,
        budget: ByteBudget,
        *,
        dtype: StoredDtype,
        lease: Lease,
        stages: Stages,
    ) -> None:
        self._decoding = decoding
        self._engine = engine
        self._budget = budget
        self._dtype = dtype
        self._lease = lease
        self._stages = stages
        self._under_way: deque[_Chunk] = deque()

    def tokens(self) -> Generator[Tokens]:
        """Tokens of each chunk; those of one are let go before the next ones come.

        Raises:
            EmbedError: the file is damaged, the engine cannot encode it, or nobody wants it any more.
        """
        try:
            for segments in self._decoding.header.chunk_sizes():
                cost = self._cost(segments)
                while not self._budget.try_take(cost):
                    if not self._under_way:
                        with self._stages.time("wait"):
                            self._budget.take(cost, check=self._lease.check)
                        break
                    # Never wait for room while holding some: it comes from those who go on.
                    yield from self._oldest()
                self._begin(segments, cost)
            self._decoding.finish()
            self._lease.is_decoded = True
            while self._under_way:
                yield from self._oldest()
        finally:
            self._abandon()

    def _begin(self, segments: int, cost: int) -> None:
        try:
            with self._stages.time("decode"):
                patches = self._decoding.read_chunk(segments)
        except BaseException:
            self._budget.give_back(cost)
            raise
        _, h, w = self._decoding.header.grid_thw
        request = EncodeRequest(
            patches=patches, grid_thw=(segments, h, w), dtype=self._dtype, alone=self._lease.item.suspect
        )
        self._under_way.append(_Chunk(tokens=self._engine.submit(request), cost=cost))

    def _oldest(self) -> Iterator[Tokens]:
        chunk = self._under_way.popleft()
        try:
            with self._stages.time("encode"):
                tokens = chunk.tokens.result()
            yield tokens
        finally:
            self._budget.give_back(chunk.cost)

    def _abandon(self) -> None:
        for chunk in self._under_way:
            chunk.tokens.cancel()
            self._budget.give_back(chunk.cost)

    def _cost(self, segments: int) -> int:
        header, encoder = self._decoding.header, self._engine.encoder
        patches = segments * header.grid_thw[1] * header.grid_thw[2]
        tokens = patches // encoder.patches_per_token * encoder.dim * ITEM_BYTES[self._dtype]
        return header.chunk_bytes(segments) + tokens
