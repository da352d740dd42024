"""Log lines name what they are about, for a person and for a collector."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from glm4v_client.states import MediaKind
from worker.logs import about, configure_logging
from worker.records import ClaimedItem
from worker.settings import Settings

JOB = UUID("0192f0c1-0000-7000-8000-000000000001")


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """configure_logging() replaces the root handlers, pytest's among them: put those back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def logged() -> Callable[..., io.StringIO]:
    def configure(**values: str) -> io.StringIO:
        stream = io.StringIO()
        settings = Settings(database_url="sqlite:///x.db", store_url="file:///x", **values)  # type: ignore[arg-type]
        configure_logging(settings, stream)
        return stream

    return configure


def claimed(item_id: int) -> ClaimedItem:
    return ClaimedItem(
        id=item_id,
        job_id=JOB,
        position=0,
        source="a.jpg",
        kind=MediaKind.AUTO,
        model="m",
        options={},
        attempt=2,
        lease_owner="w",
        suspect=False,
        created_at=datetime.now(UTC),
    )


def test_a_line_names_the_item_it_is_about(logged: Callable[..., io.StringIO]) -> None:
    stream = logged()
    with about(claimed(17)):
        logging.getLogger("worker.pipeline").warning("the host did not answer")
    line = stream.getvalue()
    assert "WARNING worker.pipeline: the host did not answer" in line
    assert line.endswith(f"[job {JOB} item 17 attempt 2]\n")


def test_a_line_about_nothing_has_no_brackets(logged: Callable[..., io.StringIO]) -> None:
    stream = logged()
    with about(claimed(17)):
        pass
    logging.getLogger("worker.engine").info("warm")
    assert stream.getvalue().endswith("INFO    worker.engine: warm\n")


def test_a_json_line_is_one_object_with_the_traceback_in_it(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(log_format="json")
    with about(claimed(3)):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("worker.pipeline").exception("it broke: %s", "so")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["message"] == "it broke: so"
    assert (event["level"], event["item"], event["attempt"], event["job"]) == ("error", 3, 2, str(JOB))
    assert "ValueError: two\nlines" in event["traceback"]
    assert datetime.fromisoformat(event["time"]).tzinfo is not None


def test_lines_below_the_level_are_left_out(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(log_level="warning")
    logging.getLogger("worker.engine").info("warm")
    assert stream.getvalue() == ""


def test_celery_does_not_announce_every_message(logged: Callable[..., io.StringIO]) -> None:
    stream = logged()
    logging.getLogger("celery.app.trace").info("Task glm4v.embed[…] succeeded")
    logging.getLogger("celery.worker.strategy").info("Task glm4v.embed[…] received")
    assert stream.getvalue() == ""
