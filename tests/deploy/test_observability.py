"""Prometheus' configuration and Grafana's dashboard, held against the metrics that the services expose."""

from __future__ import annotations

import json
import re

import yaml

from engram.telemetry import Metrics
from tests.deploy.test_compose import ROOT, SERVING

CONTRACT = {
    "engram_ingest_events_total",
    "engram_event_visible_seconds",
    "engram_stage_duration_seconds",
    "engram_batch_size",
    "engram_embed_texts_total",
    "engram_consumer_lag_records",
    "engram_consumer_lag_seconds",
    "engram_dlq_records_total",
    "engram_query_duration_seconds",
    "engram_cache_requests_total",
    "engram_rebalances_total",
    "engram_build_info",
}


def named(expressions: list[str]) -> set[str]:
    """The metrics of ours in these queries."""
    return {name for each in expressions for name in re.findall(r"\bengram_\w+", each)}


def exposed() -> set[str]:
    return {
        sample
        for metric in Metrics().registry.collect()
        for sample in (metric.name, *(f"{metric.name}_{end}" for end in ("total", "bucket", "count", "sum")))
    }


def dashboard() -> list[str]:
    panels = json.loads((ROOT / "deploy/grafana/dashboards/engram.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def alerts() -> dict[str, dict]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_exist():
    asked = named([*dashboard(), *(rule["expr"] for rule in alerts().values())])
    assert asked <= exposed()


def test_the_dashboard_shows_every_metric_of_the_contract():
    shown = named(dashboard())
    assert not {name for name in CONTRACT if not {name, f"{name}_bucket"} & shown}


def test_the_alerts_are_those_that_were_promised():
    severities = {name: rule["labels"]["severity"] for name, rule in alerts().items()}
    assert (
        severities.items()
        >= {
            "EngramDown": "critical",
            "EngramLagHighAndRising": "warning",
            "EngramNoProgress": "critical",
            "EngramQuerySlow": "warning",
            "EngramQueryTooSlow": "critical",
        }.items()
    )
    assert alerts()["EngramDown"]["for"] == "1m"
    assert "> 0.010" in alerts()["EngramQuerySlow"]["expr"]
    assert "> 0.020" in alerts()["EngramQueryTooSlow"]["expr"]


def test_prometheus_asks_the_services_where_they_answer():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        assert discovery["names"] == [job["job_name"]]
        assert str(discovery["port"]) in SERVING[job["job_name"]]["command"]
