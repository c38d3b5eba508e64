"""Prometheus' configuration and Grafana's dashboard, held against the metrics that the services expose."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from deploy.local.process import program
from lorestream.telemetry import LATENCY_BUCKETS, Metrics
from tests.brokers import missing_is_skipped
from tests.deploy.test_compose import ROOT, SERVING

CONTRACT = {
    "lorestream_ingest_events_total",
    "lorestream_event_visible_seconds",
    "lorestream_stage_duration_seconds",
    "lorestream_batch_size",
    "lorestream_embed_texts_total",
    "lorestream_consumer_lag_records",
    "lorestream_consumer_lag_seconds",
    "lorestream_dlq_records_total",
    "lorestream_query_duration_seconds",
    "lorestream_cache_requests_total",
    "lorestream_rebalances_total",
    "lorestream_build_info",
}


def named(expressions: list[str]) -> set[str]:
    """The metrics of ours in these queries."""
    return {name for each in expressions for name in re.findall(r"\blorestream_\w+", each)}


def exposed() -> set[str]:
    return {
        sample
        for metric in Metrics().registry.collect()
        for sample in (metric.name, *(f"{metric.name}_{end}" for end in ("total", "bucket", "count", "sum")))
    }


def dashboard() -> list[str]:
    panels = json.loads((ROOT / "deploy/grafana/dashboards/lorestream.json").read_text())["panels"]
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
            "LorestreamDown": "critical",
            "LorestreamLagHighAndRising": "warning",
            "LorestreamNoProgress": "critical",
            "LorestreamQuerySlow": "warning",
            "LorestreamQueryTooSlow": "critical",
        }.items()
    )
    assert alerts()["LorestreamDown"]["for"] == "1m"
    assert "> 0.010" in alerts()["LorestreamQuerySlow"]["expr"]
    assert "> 0.020" in alerts()["LorestreamQueryTooSlow"]["expr"]


def test_quantiles_are_compared_with_limits_of_buckets():
    """Between two limits a quantile is interpolated, and may be twice the slowest time."""
    limits = [
        float(limit)
        for rule in alerts().values()
        for limit in re.findall(r"histogram_quantile\(.*\) > (\S+)", rule["expr"])
    ]
    assert len(limits) == 2
    assert set(limits) <= set(LATENCY_BUCKETS)


def test_every_alert_has_a_runbook():
    for name, rule in alerts().items():
        path = ROOT / rule["annotations"]["runbook_url"]
        assert path.read_text().startswith(f"# {name}\n")
    listed = (ROOT / "docs/runbooks/README.md").read_text()
    assert {path.name for path in (ROOT / "docs/runbooks").glob("L*.md")} == {
        f"{name}.md" for name in alerts()
    }
    assert all(f"({name}.md)" in listed for name in alerts())


def test_each_outage_fires_its_alert_and_nothing_else_does():
    """The situations are in alerts_test.yml: store, log, embedder, cache away; records lost; all well."""
    with missing_is_skipped():
        promtool = program("promtool", "apt-get install -y prometheus")
    situations = Path(__file__).with_name("alerts_test.yml")
    done = subprocess.run(
        [promtool, "test", "rules", situations], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_asks_the_services_where_they_answer():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        assert discovery["names"] == [job["job_name"]]
        assert str(discovery["port"]) in SERVING[job["job_name"]]["command"]
