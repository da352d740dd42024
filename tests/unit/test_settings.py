from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker.errors import InvalidSettings
from worker.settings import DatabaseSettings, Settings, load_settings, variable

NEEDED = {"GLM4V_DATABASE_URL": "sqlite:///jobs.db", "GLM4V_STORE_URL": "file:///tmp/store"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch):
    def set_all(**values: str) -> None:
        for name, value in {**NEEDED, **values}.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_the_environment_is_read_and_given_values_win(environment):
    environment(GLM4V_LEASE_SECONDS="30", GLM4V_MODEL="random:tiny", GLM4V_FILE_ROOTS="/a:/b", GLM4V_METRICS_PORT="")
    settings = load_settings(Settings, model="other")
    assert (settings.lease_seconds, settings.model, settings.metrics_port) == (30, "other", None)
    assert settings.file_roots == (Path("/a"), Path("/b"))


def test_a_missing_setting_says_what_to_set():
    with pytest.raises(InvalidSettings, match=r"set GLM4V_DATABASE_URL: postgresql.*; set GLM4V_STORE_URL: s3"):
        load_settings(Settings)


def test_a_process_that_needs_only_the_database_asks_for_no_more(environment, monkeypatch: pytest.MonkeyPatch):
    environment(GLM4V_DEVICE="cuda")
    monkeypatch.delenv("GLM4V_STORE_URL")
    assert load_settings(DatabaseSettings).database_url == "sqlite:///jobs.db"


def test_the_broker_is_asked_for_where_it_is_needed(environment):
    environment()
    settings = load_settings(Settings)
    with pytest.raises(InvalidSettings, match="set GLM4V_BROKER_URL: redis"):
        settings.require_broker_url()
    assert load_settings(Settings, broker_url="redis://host").require_broker_url() == "redis://host"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("GLM4V_DATABASE_URL", "mysql://x", "GLM4V_DATABASE_URL .*begin it with postgresql:// or sqlite:///"),
        ("GLM4V_STORE_URL", "/just/a/path", "GLM4V_STORE_URL .*begin it with s3:// or file:///"),
        ("GLM4V_BROKER_URL", "amqp://x", "GLM4V_BROKER_URL .*begin it with redis://"),
        ("GLM4V_LEASE_SECONDS", "0", r"GLM4V_LEASE_SECONDS \(silence of a worker.*greater than or equal to 1"),
        ("GLM4V_LEASE_SECONDS", "soon", "GLM4V_LEASE_SECONDS .*valid number"),
        ("GLM4V_RETRY_BASE_SECONDS", "inf", "GLM4V_RETRY_BASE_SECONDS .*finite"),
        ("GLM4V_RETRY_BASE_SECONDS", "5000", r"GLM4V_RETRY_BASE_SECONDS \(5000\) must not be above .*\(900\)"),
        ("GLM4V_FETCH_TIMEOUT_SECONDS", "1", r"GLM4V_CONNECT_TIMEOUT_SECONDS \(10\) must not be above .*\(1\)"),
        ("GLM4V_S3_ACCESS_KEY", "key", "set GLM4V_S3_ACCESS_KEY and GLM4V_S3_SECRET_KEY together"),
        ("GLM4V_FILE_ROOTS", "relative", "GLM4V_FILE_ROOTS .*relative is relative: give it from /"),
        ("GLM4V_SCRATCH_DIRECTORY", "tmp", "GLM4V_SCRATCH_DIRECTORY .*tmp is relative"),
        ("GLM4V_DTYPE", "int8", "GLM4V_DTYPE .*'bfloat16', 'float16' or 'float32'"),
        ("GLM4V_METRICS_PORT", "70000", "GLM4V_METRICS_PORT .*65535"),
        ("GLM4V_LOG_FORMAT", "xml", "GLM4V_LOG_FORMAT .*'text' or 'json'"),
        ("GLM4V_LEAS_SECONDS", "5", "GLM4V_LEAS_SECONDS is not a setting: did you mean GLM4V_LEASE_SECONDS"),
        ("GLM4V_XYZZY", "5", "GLM4V_XYZZY is not a setting: unset it"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(environment, name: str, value: str, sentence: str):
    environment(**{name: value})
    with pytest.raises(InvalidSettings, match=sentence):
        load_settings(Settings)


def test_the_test_suites_own_variables_are_no_mistake(environment):
    environment(GLM4V_TEST_MEDIA="/media")
    load_settings(Settings)


def test_what_the_services_clients_read_is_no_mistake(environment):
    environment(GLM4V_URL="http://localhost:8000", GLM4V_API_KEY="secret")
    load_settings(Settings)


def test_secrets_and_urls_are_not_shown(environment):
    environment(
        GLM4V_DATABASE_URL="postgresql://ann:s3cret@db/x",
        GLM4V_BROKER_URL="redis://:s3cret@redis",
        GLM4V_S3_ACCESS_KEY="access",
        GLM4V_S3_SECRET_KEY="s3cret",
    )
    assert "s3cret" not in repr(load_settings(Settings))
    environment(GLM4V_DATABASE_URL="mysql://ann:s3cret@db/x")
    with pytest.raises(InvalidSettings) as caught:
        load_settings(Settings)
    assert "s3cret" not in caught.value.message


def test_every_setting_says_what_it_is_for():
    for name, field in Settings.model_fields.items():
        assert field.description, variable(name)


def test_nothing_is_read_at_import():
    code = "import worker.settings, worker.errors, worker.options, worker.records, worker.storage, worker.artefact"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"GLM4V_LEASE_SECONDS": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
