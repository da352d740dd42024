"""What docker-compose.yml and its overrides promise, read from the files."""

from __future__ import annotations

import importlib.util
import re
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.compose import FILES, UnsetVariableError, compose, image_command, raw, required_variables
from tests.conftest import REPOSITORY
from worker.settings import Settings, load_settings, unknown_variables

OURS = ("migrate", "api", "worker")
SERVERS = ("postgres", "redis", "minio")


@pytest.fixture(scope="module")
def new_env() -> ModuleType:
    spec = importlib.util.spec_from_file_location("new_env", REPOSITORY / "deploy" / "new_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def variables(new_env: ModuleType) -> dict[str, str]:
    """A new .env."""
    lines = new_env.fill((REPOSITORY / ".env.example").read_text()).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture
def services(variables: dict[str, str]) -> dict[str, Any]:
    return compose(variables=variables)


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


@pytest.mark.parametrize("service", ["api", "worker"])
@pytest.mark.parametrize("override", [(), ("docker-compose.gpu.yml",)])
def test_a_services_environment_is_one_that_its_settings_accept(
    variables: dict[str, str], service: str, override: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = compose(*override, variables=variables)[service]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings(Settings).model == "random:tiny"


@pytest.mark.parametrize("name", FILES)
def test_every_variable_of_every_service_is_a_setting(name: str) -> None:
    for service in raw(name)["services"].values():
        assert unknown_variables(service.get("environment", {})) == []


def test_nothing_starts_without_its_secrets(variables: dict[str, str]) -> None:
    for name in required_variables("docker-compose.yml"):
        with pytest.raises(UnsetVariableError, match=rf"{name}: .*\.env"):
            compose(variables={**variables, name: ""})


@pytest.mark.parametrize("name", FILES)
def test_no_secret_has_a_default(name: str) -> None:
    secret = re.compile(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*)(?!:\?|\w)")
    assert secret.findall((REPOSITORY / name).read_text()) == []
    assert not re.search(r"(?i)(password|secret_key|access_key)\w*: (?!\$|&)\S", (REPOSITORY / name).read_text())


def test_the_example_names_every_variable_that_must_be_set(variables: dict[str, str]) -> None:
    assert required_variables("docker-compose.yml") <= set(variables)


def test_a_new_env_is_secret_random_and_never_written_over(new_env: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("A=\nGLM4V_API_KEY=\nGLM4V_API_KEYS=\nB=given\n")
    new_env.main(tmp_path)
    written = (tmp_path / ".env").read_text()
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert re.fullmatch(r"A=\w{48}\nGLM4V_API_KEY=\w{48}\nGLM4V_API_KEYS=operator:\w{64}\nB=given\n", written)
    assert new_env.fill("A=\n") != new_env.fill("A=\n")
    new_env.main(tmp_path)
    assert (tmp_path / ".env").read_text() == written


def test_only_the_api_is_published_and_only_to_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    started = {name for name in published if "profiles" not in services[name]}
    assert started == {"api"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_servers_are_on_a_network_that_leads_nowhere(services: dict[str, Any]) -> None:
    assert raw("docker-compose.yml")["networks"]["servers"]["internal"] is True
    for name in (*SERVERS, "migrate", "prometheus"):
        assert list(services[name]["networks"]) == ["servers"]


def test_migrations_run_when_the_servers_are_healthy_and_before_whoever_needs_them(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"] == {server: {"condition": "service_healthy"} for server in SERVERS}
    for name in ("api", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_the_servers_stop_last_so_that_workers_can_give_back_what_they_hold(variables: dict[str, str]) -> None:
    services = compose("docker-compose.gpu.yml", variables=variables)
    workers = [name for name in services if name.startswith("worker") and name != "worker-template"]
    assert len(workers) == 8
    for name in ("api", *workers):
        assert set(services[name]["depends_on"]) == {"migrate", *SERVERS}


def test_every_service_is_bounded_restarted_and_watched(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        assert ("healthcheck" in service) == (name != "migrate"), name


def test_our_containers_can_write_nothing_and_have_no_rights(services: dict[str, Any]) -> None:
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("target", ["api", "worker"])
def test_the_images_run_as_an_ordinary_user_and_copy_no_installer(target: str) -> None:
    stage = (REPOSITORY / "Dockerfile").read_text().split(f" AS {target}\n")[1].split("\nFROM ")[0]
    assert "\nUSER glm4v\n" in stage
    assert "--from=installer" not in stage
    assert ("--from=torch" in stage) == (target == "worker")
    assert image_command(target)[0] in ("uvicorn", "celery")


def test_a_worker_has_longer_to_stop_than_it_drains(services: dict[str, Any]) -> None:
    drain = float(services["worker"]["environment"]["GLM4V_DRAIN_SECONDS"])
    assert seconds(services["worker"]["stop_grace_period"]) >= drain + 15


def test_each_gpu_has_one_worker_and_a_profile_as_many_as_it_says() -> None:
    gpu = raw("docker-compose.gpu.yml")["services"]
    devices = {
        name: service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name, service in gpu.items()
    }
    assert list(devices.values()) == [[str(number)] for number in range(8)]
    for count in (2, 4, 8):
        further = [name for name, service in gpu.items() if f"{count}-gpus" in service.get("profiles", ())]
        assert len(further) == count - 1
    template = raw("docker-compose.yml")["services"]["worker-template"]
    assert "depends_on" not in template, "Compose before 2.24 refuses to extend what depends on others"
    assert template["profiles"] == ["template"]


def test_another_store_needs_no_server_here(variables: dict[str, str]) -> None:
    with pytest.raises(UnsetVariableError, match="STORE_URL"):
        compose("docker-compose.s3.yml", variables=variables)
    services = compose("docker-compose.s3.yml", variables={**variables, "STORE_URL": "s3://ours"})
    assert services["minio"]["restart"] == "no"
    assert services["migrate"]["depends_on"]["minio"] == {"condition": "service_completed_successfully"}
    for name in ("api", "worker"):
        assert services[name]["environment"]["GLM4V_STORE_URL"] == "s3://ours"
