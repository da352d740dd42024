"""GLM-V visual tokens from a glm4v-embed service. `from glm4v_client import EmbeddingClient`.

Names are imported on first use, so that whoever needs a record does not load the HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glm4v_client.async_client import AsyncEmbeddingClient
    from glm4v_client.client import EmbeddingClient, ItemHandle, JobHandle
    from glm4v_client.downloads import Download, DownloadState, DownloadSummary
    from glm4v_client.errors import (
        ClientError,
        Conflict,
        DamagedDownload,
        Forbidden,
        InvalidArgument,
        InvalidRequest,
        JobFailed,
        NoEmbedding,
        NotFound,
        ServiceError,
        ServiceFailed,
        ServiceTimeout,
        ServiceUnreachable,
        TooManyRequests,
        Unauthorized,
        UnexpectedAnswer,
        UnverifiedWebhook,
        WaitTimeout,
    )
    from glm4v_client.item import AsyncItemHandle
    from glm4v_client.job import AsyncJobHandle
    from glm4v_client.options import EmbedOptions
    from glm4v_client.records import ItemRequest
    from glm4v_client.retrying import RetryPolicy
    from glm4v_client.states import ItemState, JobState, MediaKind
    from glm4v_client.visual_tokens import VisualTokens
    from glm4v_client.webhooks import verify_webhook

__all__ = [
    "AsyncEmbeddingClient",
    "AsyncItemHandle",
    "AsyncJobHandle",
    "ClientError",
    "Conflict",
    "DamagedDownload",
    "Download",
    "DownloadState",
    "DownloadSummary",
    "EmbedOptions",
    "EmbeddingClient",
    "Forbidden",
    "InvalidArgument",
    "InvalidRequest",
    "ItemHandle",
    "ItemRequest",
    "ItemState",
    "JobFailed",
    "JobHandle",
    "JobState",
    "MediaKind",
    "NoEmbedding",
    "NotFound",
    "RetryPolicy",
    "ServiceError",
    "ServiceFailed",
    "ServiceTimeout",
    "ServiceUnreachable",
    "TooManyRequests",
    "Unauthorized",
    "UnexpectedAnswer",
    "UnverifiedWebhook",
    "VisualTokens",
    "WaitTimeout",
    "verify_webhook",
]

_MODULES = {
    "AsyncEmbeddingClient": "async_client",
    "AsyncItemHandle": "item",
    "AsyncJobHandle": "job",
    "ClientError": "errors",
    "Conflict": "errors",
    "DamagedDownload": "errors",
    "Download": "downloads",
    "DownloadState": "downloads",
    "DownloadSummary": "downloads",
    "EmbedOptions": "options",
    "EmbeddingClient": "client",
    "Forbidden": "errors",
    "InvalidArgument": "errors",
    "InvalidRequest": "errors",
    "ItemHandle": "client",
    "ItemRequest": "records",
    "ItemState": "states",
    "JobFailed": "errors",
    "JobHandle": "client",
    "JobState": "states",
    "MediaKind": "states",
    "NoEmbedding": "errors",
    "NotFound": "errors",
    "RetryPolicy": "retrying",
    "ServiceError": "errors",
    "ServiceFailed": "errors",
    "ServiceTimeout": "errors",
    "ServiceUnreachable": "errors",
    "TooManyRequests": "errors",
    "Unauthorized": "errors",
    "UnexpectedAnswer": "errors",
    "UnverifiedWebhook": "errors",
    "VisualTokens": "visual_tokens",
    "WaitTimeout": "errors",
    "verify_webhook": "webhooks",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
