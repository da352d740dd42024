from __future__ import annotations

import pytest
from celery.worker.consumer import Consumer

from worker.consumer import LastingConsumer


def test_a_lost_connection_that_cannot_be_closed_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = ConnectionError("the broker is gone")
    seen = []

    def close(consumer: Consumer, exc: Exception) -> None:
        seen.append(exc)
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    monkeypatch.setattr(Consumer, "on_connection_error_after_connected", close)

    LastingConsumer.on_connection_error_after_connected(object.__new__(LastingConsumer), lost)

    assert seen == [lost]
