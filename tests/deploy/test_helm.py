"""The chart deploy/helm/lorestream: its values in `make test`, what helm renders from it in `make soak`."""

from __future__ import annotations

import functools
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.local.process import program
from lorestream.access import key_file
from lorestream.http.server import EXIT_TIMEOUT_S
from tests import zygote
from tests.deploy.test_compose import ROOT, known
from tests.processes import clean_environment

CHART = ROOT / "deploy" / "helm" / "lorestream"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
EXAMPLES = ("embedded.yaml", "external.yaml", "in-cluster.yaml")
KUBERNETES = "1.34"


def example(name: str) -> dict[str, Any]:
    return yaml.safe_load((CHART / "examples" / name).read_text())


def test_the_schema_knows_every_default_and_accepts_it() -> None:
    jsonschema.validate(DEFAULTS, SCHEMA)
    assert set(SCHEMA["properties"]) - {"global"} == set(DEFAULTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_valid_and_set_what_lorestream_reads(name: str) -> None:
    values = example(name)
    jsonschema.validate({**DEFAULTS, **values}, SCHEMA)
    variables = [*values.get("settings", {}), *(one["name"] for one in values.get("env", []))]
    assert [one for one in variables if not known(one)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mode", "both"),
        ("settings", {"TTL": 1}),
        ("worker", {"replica": 3}),
        ("qdrant", {"url": "qdrant"}),
        ("x", 1),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**DEFAULTS, path: value}, SCHEMA)


def test_alerts_and_dashboard_know_the_components_that_serve_metrics() -> None:
    templates = [path.read_text() for path in (CHART / "templates").glob("*.yaml")]
    components = {one for text in templates for one in re.findall(r'"component" "(\w+)".* "resources"', text)}
    asked = (ROOT / "deploy/prometheus/alerts.yml").read_text() + (
        ROOT / "deploy/grafana/dashboards/lorestream.json"
    ).read_text()
    lists = [set(one.split("|")) for one in re.findall(r'job=~\\?"([\w|]+)', asked)]
    assert components in lists
    assert all(one in (components, components - {"embedded"}) for one in lists)


@functools.cache
def render(*arguments: str) -> list[dict[str, Any]]:
    helm = program("helm", "make helm")
    command = [helm, "template", "one", str(CHART), "--kube-version", f"{KUBERNETES}.0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.mark.soak
class TestRendered:
    """What helm makes of the chart, held against Kubernetes' schemas and against the code."""

    @pytest.fixture(params=EXAMPLES)
    def manifests(self, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
        return render("--values", str(CHART / "examples" / request.param))

    def test_kubernetes_accepts_every_manifest(self, manifests: list[dict[str, Any]]) -> None:
        kubernetes = importlib.import_module("kubernetes_validate")
        of_operators = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
        for one in manifests:
            if one["kind"] not in of_operators:
                kubernetes.validate(one, KUBERNETES, strict=True)

    def test_every_verb_and_setting_is_known(self, manifests: list[dict[str, Any]]) -> None:
        containers = [
            container
            for one in manifests
            for container in (
                one["spec"].get("template", one).get("spec", {}).get("containers", [])
                if "spec" in one
                else []
            )
        ]
        assert containers
        for container in containers:
            arguments = [str(one) for one in container["args"]]
            command = [sys.executable, "-m", "lorestream.cli", *arguments, "--help"]
            done = zygote.run(command, env=clean_environment(), timeout=60)
            assert done.returncode == 0, done.stderr
            assert all(one in done.stdout for one in arguments if one.startswith("--"))
            assert all(known(one["name"]) for one in container.get("env", []))
        [settings] = [one for one in manifests if one["kind"] == "ConfigMap"]
        assert [name for name in settings["data"] if not known(name)] == []

    def test_selectors_find_the_pods(self, manifests: list[dict[str, Any]]) -> None:
        pods = [
            one["spec"]["template"]["metadata"]["labels"]
            for one in manifests
            if "template" in one.get("spec", {})
        ]
        for one in manifests:
            selector = one.get("spec", {}).get("selector")
            if one["kind"] in {"Service", "Deployment", "StatefulSet", "PodDisruptionBudget"}:
                wanted = selector.get("matchLabels", selector)
                assert sum(wanted.items() <= labels.items() for labels in pods) == 1, one["metadata"]

    def test_pods_that_are_called_stop_after_they_are_taken_out_of_the_service(self) -> None:
        for one in render("--values", str(CHART / "examples" / "external.yaml")):
            if one["kind"] == "Deployment":
                pod = one["spec"]["template"]["spec"]
                [container] = pod["containers"]
                before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
                wanted = ["sleep", "5"] if container["name"] in {"gateway", "query"} else None
                assert before == wanted, container["name"]
                assert pod["terminationGracePeriodSeconds"] > 5 + EXIT_TIMEOUT_S

    def test_the_network_policy_admits_the_pods_of_the_release(self, manifests: list[dict[str, Any]]) -> None:
        """Query services call the gateways, and the pod of `helm test` calls both, whoever else may."""
        [policy] = [one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"]
        assert {"podSelector": policy["podSelector"]} in policy["ingress"][0]["from"]

    def test_the_keys_are_such_that_lorestream_reads(self, tmp_path: Path) -> None:
        [secret] = [one["stringData"] for one in render() if one["kind"] == "Secret"]
        (tmp_path / "keys.json").write_text(secret["keys.json"])
        key_id, _, _ = secret["api_key"].partition(".")
        assert key_file.find(tmp_path / "keys.json", key_id).tenant == "default"
        assert re.fullmatch(r"k1:[0-9a-f]{64}", secret["player_key"])

    def test_an_upgrade_that_does_not_find_its_keys_is_refused(self) -> None:
        with pytest.raises(AssertionError, match=r"one-lorestream-keys is gone.*keys\.existingSecret"):
            render("--is-upgrade")
        assert render("--is-upgrade", "--set", "keys.existingSecret=mine")

    def test_what_the_distributed_mode_needs_is_asked_for(self) -> None:
        with pytest.raises(AssertionError, match=r"kafka\.bootstrap is needed"):
            render("--set", "mode=distributed")

    def test_the_alerts_are_those_of_prometheus(self) -> None:
        [rule] = [
            one
            for one in render("--values", str(CHART / "examples" / "in-cluster.yaml"))
            if one["kind"] == "PrometheusRule"
        ]
        assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
