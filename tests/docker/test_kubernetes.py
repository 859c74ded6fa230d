from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from docket import Docket

from tests.docker.parts import COMPOSE_FILES, DOCKER, ROOT, pod, read_yaml, resource, resources

KUBERNETES = ("1.30", "1.34")  # the least version by docs/operations.md, and a newer one
WORKLOADS = (("Deployment", "vsg-api"), ("Deployment", "vsg-worker"), ("StatefulSet", "vsg-redis"))


@pytest.mark.parametrize(
    "document", resources(), ids=lambda document: f"{document['kind']}-{document['metadata']['name']}"
)
def test_a_manifest_is_valid_by_the_published_schema(document: dict[str, Any]) -> None:
    if document["kind"] == "ScaledObject":
        # The model takes fields that it does not know and forgets them.
        known = ScaledObject.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert known == document
    else:
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_kustomization_applies_every_manifest_but_the_other_autoscaler() -> None:
    folder = DOCKER / "kubernetes"
    applied = set(read_yaml(folder / "kustomization.yaml")["resources"])
    assert {path.name for path in folder.glob("*.yaml")} - applied == {"kustomization.yaml", "autoscaling-hpa.yaml"}


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_pods_run_without_privileges_and_have_probes(kind: str, name: str) -> None:
    specification = pod(kind, name)
    assert specification["securityContext"]["runAsNonRoot"]
    assert not specification["automountServiceAccountToken"]
    (container,) = specification["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"livenessProbe", "readinessProbe"} <= container.keys()
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", ["vsg-api", "vsg-worker"])
def test_environment_variables_of_services_are_not_taken_for_settings(name: str) -> None:
    assert pod("Deployment", name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", ["vsg-api", "vsg-worker"])
def test_a_pod_gets_longer_to_stop_than_it_takes(name: str) -> None:
    specification = pod("Deployment", name)
    (container,) = specification["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    asleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert specification["terminationGracePeriodSeconds"] > asleep + int(environment["VSG_SHUTDOWN_SECONDS"])


def test_ports_are_those_that_the_images_listen_on() -> None:
    (api,), (worker,) = (pod("Deployment", name)["containers"] for name in ("vsg-api", "vsg-worker"))
    assert f"EXPOSE {api['ports'][0]['containerPort']}\n" in (DOCKER / "api.Dockerfile").read_text()
    for name in ("worker.Dockerfile", "worker-cpu.Dockerfile"):
        text = (DOCKER / name).read_text()
        assert f"EXPOSE {worker['ports'][0]['containerPort']}\n" in text
        assert f"VSG_METRICS_PORT={worker['ports'][0]['containerPort']}\n" in text


def test_redis_is_the_same_as_in_the_compose_file() -> None:
    redis = read_yaml(COMPOSE_FILES[0])["services"]["redis"]
    (container,) = pod("StatefulSet", "vsg-redis")["containers"]
    assert (container["image"], container["args"]) == (redis["image"], redis["command"])


async def test_keda_watches_the_redis_stream_of_the_queue() -> None:
    (trigger,) = resource("ScaledObject", "vsg-worker")["spec"]["triggers"]
    assert trigger["metadata"]["stream"] == Docket(name="vsg", url="memory://").stream_key


def test_the_document_names_the_least_version() -> None:
    assert f"They need Kubernetes {KUBERNETES[0]} or newer" in (ROOT / "docs" / "operations.md").read_text()
    # `preStop.sleep` is what asks for it.
    (api,) = pod("Deployment", "vsg-api")["containers"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource("Deployment", "vsg-api"), "1.28", strict=True)
    assert "sleep" in api["lifecycle"]["preStop"]


@pytest.mark.parametrize(("name", "port"), [("vsg-api", 8000), ("vsg-worker", 9100), ("vsg-redis", 6379)])
def test_each_pod_is_reached_on_its_port_alone_and_only_the_api_reaches_out(name: str, port: int) -> None:
    policy = resource("NetworkPolicy", name)["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": name}}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == [port]
    out = [each["port"] for rule in policy.get("egress", ()) for each in rule["ports"]]
    assert out == {"vsg-api": [53, 53, 6379, 80, 443], "vsg-worker": [53, 53, 6379], "vsg-redis": []}[name]
    for rule in policy.get("egress", ()):
        assert {each["port"] for each in rule["ports"]} == {53} or rule["to"]


def test_engines_that_tensorrt_has_built_outlive_a_pod() -> None:
    specification = pod("Deployment", "vsg-worker")
    (claim,) = [volume for volume in specification["volumes"] if volume["name"] == "engines"]
    assert resource("PersistentVolumeClaim", claim["persistentVolumeClaim"]["claimName"])
    (mount,) = [each for each in specification["containers"][0]["volumeMounts"] if each["name"] == "engines"]
    assert mount["mountPath"] == "/cache"
    assert mount["subPathExpr"] == "$(NODE)"


def test_patches_for_machines_without_gpus_name_existing_resources() -> None:
    (patch,) = read_yaml(DOCKER / "kubernetes" / "cpu" / "kustomization.yaml")["patches"]
    worker = resource(patch["target"]["kind"], patch["target"]["name"])
    for operation in yaml.safe_load(patch["patch"]):
        found: Any = worker
        for key in operation["path"].strip("/").split("/"):
            found = found[int(key) if isinstance(found, list) else key]
        assert found
    assert "nvidia" not in json.dumps(yaml.safe_load(patch["patch"]))
