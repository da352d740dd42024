"""Alerts and dashboard speak of metrics that there are, in PromQL that parses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest

from api.metrics import ApiMetrics
from tests.conftest import REPOSITORY, require
from worker.engine import EngineStatistics
from worker.metrics import Metrics

MONITORING = REPOSITORY / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "glm4v.json"

#: The server's own.
SERIES_OF_PROMETHEUS = {"up"}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    shown = [target["expr"].replace("$__rate_interval", "5m") for panel in panels() for target in panel["targets"]]
    return [*(alert["expr"] for alert in alerts()), *shown]


@pytest.fixture(scope="module")
def series() -> set[str]:
    """Every series of a worker's page and of the API's."""
    metrics = Metrics()
    metrics.watch_engine(EngineStatistics)
    metrics.watch("glm4v_items_held", "as worker.service names it", lambda: 0)
    page = (generate_latest(metrics.registry) + ApiMetrics().page()).decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)", page, re.MULTILINE))
    return {name + ("_bucket" if kind == "histogram" else "") for name, kind in kinds.items()}


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_parses_and_names_known_series(expression: str, series: set[str]) -> None:
    promql_parser.parse(expression)
    named = set(re.findall(r"\b(?:glm4v_\w+|up)\b", re.sub(r'"[^"]*"', "", expression)))
    assert named
    assert named <= series | SERIES_OF_PROMETHEUS


def test_there_is_an_alert_for_each_way_of_standing_still() -> None:
    assert {alert["alert"] for alert in alerts()} == {
        "NothingFinishes",
        "NoWorker",
        "OldestItemTooOld",
        "FailuresByCodeRising",
    }
    for alert in alerts():
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["action"]


def test_each_alert_speaks_when_it_must_and_not_before() -> None:
    require(shutil.which("promtool") is not None, "promtool is not here: apt-get install prometheus")
    rules = Path(__file__).parent / "alerts.test.yml"
    run = subprocess.run(["promtool", "test", "rules", rules], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_dashboard_shows_what_an_operator_asks_for() -> None:
    titles = " ".join(panel["title"] for panel in panels())
    for words in (
        "Items finished",
        "Stage latencies",
        "GPU busy",
        "Items that wait",
        "oldest item",
        "Failures by code",
    ):
        assert words in titles


def test_panels_lie_beside_each_other() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_worker_is_scraped_however_many_there_are() -> None:
    jobs = {
        job["job_name"]: job["dns_sd_configs"][0]
        for job in yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    }
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    assert jobs["worker"]["names"] == services["worker"]["networks"]["servers"]["aliases"]
    assert str(jobs["worker"]["port"]) == services["worker"]["environment"]["GLM4V_METRICS_PORT"]
    assert jobs["api"]["port"] == 8000
