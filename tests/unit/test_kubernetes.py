"""The manifests of deploy/kubernetes, held to the cluster's schemas and to our settings."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.conftest import REPOSITORY
from worker.settings import unknown_variables

FOLDER = REPOSITORY / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
#: What we use of KEDA's ScaledObject: its own schema comes with KEDA, not with Kubernetes.
SCALED_OBJECT = json.loads((Path(__file__).parent / "scaled_object.schema.json").read_text())


def manifests() -> list[dict[str, Any]]:
    files = [FOLDER / name for name in KUSTOMIZATION["resources"]]
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod(kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(kind, name)["spec"]["template"]["spec"]
    return spec


def pods() -> list[Any]:
    return [
        pytest.param(each["spec"]["template"]["spec"], id=each["metadata"]["name"])
        for each in manifests()
        if "template" in each["spec"]
    ]


def properties(file: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (FOLDER / file).read_text().splitlines())


def check(each: dict[str, Any]) -> None:
    """Raises what the schema says is wrong with a manifest; an unknown field is wrong too."""
    if each["apiVersion"].startswith("keda.sh/"):
        jsonschema.validate(each, SCALED_OBJECT)
    else:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("each", manifests(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_a_manifest_fits_its_schema(each: dict[str, Any]) -> None:
    check(each)


def test_a_mistake_in_a_manifest_would_be_found() -> None:
    deployment = manifest("Deployment", "api")
    deployment["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        check(deployment)
    scaled = manifest("ScaledObject", "worker")
    scaled["spec"]["maxReplicas"] = 2
    with pytest.raises(jsonschema.ValidationError):
        check(scaled)


def test_what_kustomize_renders_fits_too() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl renders with kustomize, and is not here; each file is checked by itself")
    command = ["kubectl", "kustomize", str(FOLDER)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = list(yaml.safe_load_all(rendered.stdout))
    for each in found:
        check(each)
        assert each["metadata"]["namespace"] == "glm4v"
    assert len(found) == len(manifests()) + len(KUSTOMIZATION["configMapGenerator"])


@pytest.mark.parametrize("spec", pods())
def test_every_variable_of_a_pod_is_a_setting_and_comes_from_somewhere(spec: dict[str, Any]) -> None:
    for container in spec["containers"]:
        variables = {variable["name"]: variable for variable in container.get("env", ())}
        assert unknown_variables(dict.fromkeys(variables, "")) == []
        secrets = [each["valueFrom"]["secretKeyRef"]["key"] for each in variables.values() if "valueFrom" in each]
        assert set(secrets) <= set(properties("secrets.env.example"))


@pytest.mark.parametrize("file", ["settings.env", "secrets.env.example"])
def test_a_file_of_variables_holds_settings(file: str) -> None:
    assert unknown_variables(properties(file)) == []


@pytest.mark.parametrize("spec", pods())
def test_a_pod_is_not_root_and_writes_only_what_is_mounted(spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_pods_have_longer_to_stop_than_they_need() -> None:
    worker = pod("Deployment", "worker")
    variables = {each["name"]: each.get("value") for each in worker["containers"][0]["env"]}
    assert worker["terminationGracePeriodSeconds"] >= float(variables["GLM4V_DRAIN_SECONDS"] or 0) + 15


def test_a_worker_owns_one_gpu_and_api_and_migrations_none() -> None:
    gpus = {
        spec.id: container["resources"]["limits"].get("nvidia.com/gpu")
        for spec in pods()
        for container in spec.values[0]["containers"]
    }
    assert gpus == {"migrate": None, "fetch-weights": None, "api": None, "worker": "1"}


@pytest.mark.parametrize("name", ["api", "worker"])
def test_what_runs_is_probed_and_spared_by_disruptions(name: str) -> None:
    deployment, budget = manifest("Deployment", name)["spec"], manifest("PodDisruptionBudget", name)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == budget["selector"]["matchLabels"] == labels
    (container,) = deployment["template"]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_a_broker_that_is_away_restarts_nobody() -> None:
    for name in ("api", "worker"):
        (container,) = pod("Deployment", name)["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] in ("/healthz", "/metrics")


def test_autoscaling_counts_the_items_of_the_model_that_the_workers_run() -> None:
    scaled = manifest("ScaledObject", "worker")["spec"]
    (trigger,) = scaled["triggers"]
    assert f"model = '{properties('settings.env')['GLM4V_MODEL']}'" in trigger["metadata"]["query"]
    variables = {each["name"] for each in pod("Deployment", scaled["scaleTargetRef"]["name"])["containers"][0]["env"]}
    assert trigger["metadata"]["connectionFromEnv"] in variables
    assert "replicas" not in manifest("Deployment", "worker")["spec"], "an apply would undo the scaling"
