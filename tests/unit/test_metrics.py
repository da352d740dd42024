"""What is counted, and under which names."""

from __future__ import annotations

import dataclasses
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from glm4v_client.states import MediaKind
from tests.servers import free_port
from worker.engine import EngineStatistics
from worker.metrics import Metrics
from worker.records import (
    ClaimedItem,
    EmbeddingRecord,
    Failed,
    Outcome,
    QueueDepth,
    Reconciled,
    Released,
    Retry,
    Succeeded,
)

ITEM = ClaimedItem(
    id=1,
    job_id=UUID(int=1),
    position=0,
    source="a.jpg",
    kind=MediaKind.AUTO,
    model="m",
    options={},
    attempt=1,
    lease_owner="w",
    suspect=False,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)

MADE = EmbeddingRecord(
    content_sha256="a" * 64,
    fingerprint="b" * 64,
    kind=MediaKind.IMAGE,
    object_key="embeddings/x",
    grid_thw=(1, 8, 8),
    timestamps=None,
    frame_indices=None,
    num_tokens=16,
    dim=8,
    dtype="float32",
    byte_size=1000,
    object_sha256="c" * 64,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def value(metrics: Metrics) -> Callable[..., float]:
    def read(name: str, **labels: str) -> float:
        found = metrics.registry.get_sample_value(name, labels)
        assert found is not None, f"there is no {name} {labels}"
        return found

    return read


@pytest.mark.parametrize(
    ("outcome", "labels"),
    [
        pytest.param(Succeeded(item=ITEM, embedding=MADE), {"outcome": "succeeded", "code": ""}, id="succeeded"),
        pytest.param(
            Failed(item=ITEM, code="not_found", message=""), {"outcome": "failed", "code": "not_found"}, id="failed"
        ),
        pytest.param(
            Retry(item=ITEM, code="fetch_timeout", message="", delay_seconds=1),
            {"outcome": "retried", "code": "fetch_timeout"},
            id="retried",
        ),
        pytest.param(Released(item=ITEM), {"outcome": "released", "code": ""}, id="released"),
    ],
)
def test_outcomes_are_counted_by_kind_and_code(
    metrics: Metrics, value: Callable[..., float], outcome: Outcome, labels: dict[str, str]
) -> None:
    metrics.observe(outcome)
    assert value("glm4v_items_total", **labels) == 1


def test_tokens_count_for_made_and_found_embeddings_alike(metrics: Metrics, value: Callable[..., float]) -> None:
    metrics.observe(Succeeded(item=ITEM, embedding=MADE))
    metrics.observe(Succeeded(item=ITEM, embedding=dataclasses.replace(MADE, id=5)))
    assert value("glm4v_item_tokens_total") == 32
    assert value("glm4v_items_reused_total") == 1


def test_each_stage_has_its_times(metrics: Metrics, value: Callable[..., float]) -> None:
    metrics.observe(Succeeded(item=ITEM, embedding=MADE, timings={"fetch": 0.02, "decode": 0.3}))
    assert value("glm4v_stage_seconds_count", stage="fetch") == 1
    assert value("glm4v_stage_seconds_bucket", stage="decode", le="0.25") == 0
    assert value("glm4v_stage_seconds_bucket", stage="decode", le="0.5") == 1


def test_the_queue_is_shown_as_it_was_last_seen(metrics: Metrics, value: Callable[..., float]) -> None:
    metrics.observe_queue(QueueDepth(model="m", queued=9, dispatched=4, running=2, oldest_seconds=7.5))
    assert value("glm4v_queue_items", state="queued") == 9
    assert value("glm4v_queue_oldest_seconds") == 7.5
    metrics.observe_queue(None)
    assert value("glm4v_queue_items", state="queued") == 0
    assert value("glm4v_queue_oldest_seconds") == 0


def test_what_reconciling_mended_is_counted(metrics: Metrics, value: Callable[..., float]) -> None:
    for _ in range(2):
        metrics.observe_reconciled(Reconciled(due=1, suspects=2, lost=3, cancelled=4, redelivered=5))
    assert value("glm4v_items_reconciled_total", what="redelivered") == 10


def test_the_engines_totals_are_read_when_the_page_is(metrics: Metrics, value: Callable[..., float]) -> None:
    totals = [EngineStatistics(patches=3, room=4)]
    metrics.watch_engine(lambda: totals[0])
    totals[0] = EngineStatistics(patches=30, room=40, busy_seconds=1.5)
    assert value("glm4v_patches_total") == 30
    assert value("glm4v_patch_room_total") == 40
    assert value("glm4v_device_busy_seconds_total") == 1.5


def test_the_page_is_served_until_it_is_closed(metrics: Metrics) -> None:
    port = free_port()
    close = metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        assert b"glm4v_items_total" in page.read()
    close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
