from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console

from glm4v_client.states import ItemState, JobState, MediaKind
from tests.claimed import embedding
from worker.folder import OutputFolder
from worker.records import ItemRecord, JobProgress
from worker.report import as_json, summary_table, totals

FOLDER = OutputFolder(Path("/results"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def item(**changes: Any) -> ItemRecord:
    values: dict[str, Any] = {
        "id": 1,
        "job_id": UUID(int=1),
        "position": 0,
        "source": "clip [a].mp4",
        "kind": MediaKind.AUTO,
        "state": ItemState.SUCCEEDED,
        "attempt": 1,
        "lease_owner": None,
        "not_before": None,
        "error_code": None,
        "error_message": None,
        "timings": {"fetch": 0.1, "total": 1.234},
        "created_at": NOW,
        "started_at": NOW,
        "finished_at": NOW,
        "embedding": embedding(kind=MediaKind.VIDEO, grid_thw=(2, 8, 8), timestamps=(0.0, 1.5), num_tokens=32),
    }
    return ItemRecord(**{**values, **changes})


FAILED = item(
    state=ItemState.FAILED,
    embedding=None,
    error_code="not_found",
    error_message="There is no file [x]: check the path.",
    timings={},
)


def shown(*items: ItemRecord) -> str:
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(summary_table(items))
    return captured.get()


def test_an_item_is_one_line_of_json() -> None:
    assert json.loads(as_json(item(), FOLDER)) == {
        "source": "clip [a].mp4",
        "kind": "video",
        "state": "succeeded",
        "error_code": None,
        "error_message": None,
        "grid_thw": [2, 8, 8],
        "timestamps": [0.0, 1.5],
        "tokens": 32,
        "artefact": "/results/embeddings/ffff/cc/cccc.1234.safetensors",
        "seconds": 1.234,
    }
    failed = json.loads(as_json(FAILED, FOLDER))
    assert (failed["kind"], failed["state"], failed["error_code"]) == ("auto", "failed", "not_found")
    assert failed["tokens"] is failed["artefact"] is failed["seconds"] is None


def test_the_table_shows_what_became_of_each_item() -> None:
    text = shown(item(), FAILED)
    for words in ("clip [a].mp4", "video", "2 x 8 x 8", "32", "0 to 1.5 s", "1.23 s", "embeddings/ffff…/cc/"):
        assert words in text
    assert "not_found: There is no file [x]: check the path." in text


def test_a_clip_of_one_instant_has_one_time() -> None:
    assert "0 s" in shown(item(embedding=embedding(timestamps=(0.0,))))


def test_totals_are_one_line() -> None:
    progress = JobProgress(
        job_id=UUID(int=1),
        state=JobState.FINISHED,
        total=1201,
        queued=0,
        running=0,
        succeeded=1200,
        failed=1,
        cancelled=0,
        tokens=12345,
        created_at=NOW,
        started_at=NOW,
        finished_at=NOW,
        measured_at=NOW,
    )
    assert (
        totals(progress, seconds=2.04, folder=FOLDER) == "1,200 embedded, 1 failed: 12,345 tokens in 2.0 s, in /results"
    )
