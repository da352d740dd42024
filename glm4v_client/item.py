"""One reference of a job, as its producer holds it."""

from __future__ import annotations

import io
from uuid import UUID

from glm4v_client.fetching import fetch
from glm4v_client.records import Item, ItemError, Retried
from glm4v_client.service import Service
from glm4v_client.states import ItemState, MediaKind
from glm4v_client.visual_tokens import VisualTokens


class ItemView:
    """What is known of an item; `record` has every field."""

    record: Item

    @property
    def id(self) -> int:
        return self.record.id

    @property
    def job_id(self) -> UUID:
        return self.record.job_id

    @property
    def position(self) -> int:
        """Place in the job, from 0."""
        return self.record.position

    @property
    def source(self) -> str:
        return self.record.source

    @property
    def kind(self) -> MediaKind:
        """What it was found to be; before that, what the producer said."""
        return self.record.embedding.kind if self.record.embedding else self.record.kind

    @property
    def state(self) -> ItemState:
        return self.record.state

    @property
    def error(self) -> ItemError | None:
        """Why it failed, or why its last attempt did."""
        return self.record.error

    @property
    def grid_thw(self) -> tuple[int, int, int] | None:
        """Patches along time, height and width; None until it succeeded."""
        return self.record.embedding.grid_thw if self.record.embedding else None

    @property
    def timestamps(self) -> list[float] | None:
        """Seconds, one for each temporal patch; None for an image, and until it succeeded."""
        return self.record.embedding.timestamps if self.record.embedding else None

    @property
    def num_tokens(self) -> int | None:
        """Visual tokens; None until it succeeded."""
        return self.record.embedding.num_tokens if self.record.embedding else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.position} {self.state.value} {self.source!r}>"


class AsyncItemHandle(ItemView):
    """An item, and what can be done with it."""

    def __init__(self, service: Service, record: Item) -> None:
        self._service = service
        self.record = record

    async def refresh(self) -> Item:
        """Read the item anew.

        Raises:
            ClientError: any of glm4v_client.errors.
        """
        self.record = await self._service.call("GET", f"/v1/items/{self.id}", Item)
        return self.record

    async def retry(self) -> bool:
        """Queue the item again if it failed. Gives whether it had."""
        # A second time it would be queued again if it has failed since.
        retried = await self._service.call("POST", f"/v1/items/{self.id}/retry", Retried, repeatable=False)
        return retried.retried > 0

    async def embedding(self) -> VisualTokens:
        """Fetch the item's visual tokens into memory, checked against the service's digest.

        Raises:
            NoEmbedding: the item has none.
            DamagedDownload: what came is not what the service recorded.
            ClientError: it could not be had.
        """
        file = io.BytesIO()
        await fetch(self._service, self.record, file)
        return VisualTokens(file.getvalue())
