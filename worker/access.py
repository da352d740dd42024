"""Which service a command talks to, and with how much patience."""

from __future__ import annotations

from dataclasses import dataclass

from glm4v_client.client import EmbeddingClient
from glm4v_client.retrying import RetryPolicy

#: Somebody waits for a first answer, and a wrong URL stays wrong.
_FIRST = RetryPolicy(attempts=3, base_seconds=0.3)

#: Once a service has answered, its restart is waited for.
_PATIENT = RetryPolicy(attempts=10)


@dataclass(frozen=True, kw_only=True)
class Access:
    """A service's URL and the key to it."""

    url: str
    api_key: str | None

    def client(self) -> EmbeddingClient:
        """For a question or two.

        Raises:
            InvalidArgument: the URL is none.
        """
        return EmbeddingClient(self.url, api_key=self.api_key, retry=_FIRST)

    def patient_client(self) -> EmbeddingClient:
        """For what takes long.

        Raises:
            ClientError: the service does not answer, or not to this key. Said before anything is read or uploaded.
        """
        with self.client() as first:
            next(iter(first.jobs()), None)
        return EmbeddingClient(self.url, api_key=self.api_key, retry=_PATIENT)
