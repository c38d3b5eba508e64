"""What the routes for operators answer, over the application of `lorestream up`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Histogram

from lorestream import audit
from lorestream.access.key_file import KeyScope
from lorestream.admin import AdminTask, NoArguments, Outcome, Progress, ReportStream, tasks_by_name
from lorestream.admin.task_runs import TaskRuns
from lorestream.cli.serve import operators
from lorestream.cli.serve.measurements import Measurements, quantile
from lorestream.cli.serve.pipeline import PipelineView, oldest_age_s
from lorestream.errors import OperationRefused, Unavailable
from lorestream.http import admin_routes
from lorestream.http.application import application
from lorestream.http.operator_schemas import PartitionProgress
from lorestream.http.readiness import ReadinessCheck, ReadinessChecks
from lorestream.settings import load_settings
from lorestream.telemetry import Metrics
from tests.api_keys import bearer
from tests.parts import Faulty, open_parts
from tests.whole_app import WholeApp, open_app

SECRET = "k1:nobody-may-see-this"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[WholeApp]:
    async with open_app(tmp_path, player_key=SECRET) as opened:
        yield opened


async def test_the_pipeline_shows_what_was_written_and_asked(app: WholeApp) -> None:
    await app.write({"agent_id": "a", "text": "one"}, {"agent_id": "b", "text": "two"})
    await app.ask("POST", "/v1/events", json={"events": [{"agent_id": "a"}]})
    await app.ask("POST", "/v1/memories/search", json={"agent_id": "a", "query": "one"})
    found = await app.ask("GET", "/v1/admin/pipeline")
    parts = {one["name"]: one for one in found["parts"]}
    assert list(parts) == ["gateway", "log", "worker", "store", "cache", "query"]
    assert {one["state"] for one in parts.values()} == {"ok"}
    assert parts["gateway"]["counters"] == {"accepted": 2, "rejected": 1, "refused": 0}
    assert parts["log"]["counters"] == {"records": 2, "lost_unread": 0}
    assert parts["worker"]["counters"]["finished"] == 2
    assert parts["cache"]["counters"]["miss"] == 1
    assert parts["store"]["gauges"]["memories"] == 2
    assert parts["query"]["counters"]["answered"] == 1
    stages = {one["stage"]: one for one in parts["worker"]["timings"]}
    assert stages["accepted until findable"]["count"] == 2
    assert 0 < stages["upsert"]["p50_s"] <= stages["upsert"]["p95_s"]
    assert stages["upsert"]["buckets"][-1] == [None, stages["upsert"]["count"]]
    asked = [one["stage"] for one in parts["query"]["timings"]]
    assert {"search, whole", "search"} <= set(asked)
    assert len(asked) == len(set(asked))
    [partition] = found["partitions"]
    assert partition == {
        "partition": 0,
        "end": 2,
        "finished": 2,
        "behind": 0,
        "owner": partition["owner"],
    }
    assert partition["owner"].startswith("process ")
    assert (found["lag_records"], found["lag_seconds"]) == (0, 0)
    [collection] = found["collections"]
    assert (collection["searched"], collection["behind"], collection["dim"]) == (True, 0, 384)


async def test_the_pipeline_of_a_query_service_names_what_it_cannot_see(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        view = PipelineView("query", runtime, ReadinessChecks([], runtime.metrics))
        parts = {one.name: one for one in (await view.read()).parts}
    assert parts["gateway"].state == "elsewhere"
    assert "/metrics" in (parts["gateway"].note or "")
    assert parts["worker"].state == "problem"
    assert "lorestream worker" in (parts["worker"].note or "")
    assert parts["store"].gauges == {"memories": 0}


async def test_an_outage_is_part_of_the_pipelines_answer(tmp_path: Path) -> None:
    async def no_log() -> str:
        return "the log is away"

    def fail() -> None:
        raise Unavailable("the log is away")

    async with open_parts(tmp_path) as runtime:
        object.__setattr__(runtime, "log", Faulty(runtime.log, end=fail))
        checks = ReadinessChecks([ReadinessCheck("log", no_log)], runtime.metrics)
        found = await PipelineView("query", runtime, checks).read()
    log = next(one for one in found.parts if one.name == "log")
    assert (log.state, log.note) == ("problem", "the log is away")
    assert (found.lag_records, found.lag_seconds, list(found.partitions)) == (None, None, [])


@pytest.mark.parametrize("age_s", [0.4, 7.0, 5000.0])
async def test_the_age_of_the_oldest_unfinished_record_is_found_by_asking_for_times(age_s: float) -> None:
    now = 1_000_000.0
    times = {0: [now - 9000, now - age_s, now], 1: [now - 9000, now - 8000]}

    class Log:
        async def offsets_for_time(self, at: float) -> dict[int, tuple[int, float]]:
            found: dict[int, tuple[int, float]] = {}
            for number, appended in times.items():
                later = [(offset, time) for offset, time in enumerate(appended) if time >= at]
                found |= {number: later[0]} if later else {}
            return found

    waiting = [PartitionProgress(0, 3, 1, 2, None), PartitionProgress(1, 2, 2, 0, None)]
    found = await oldest_age_s(Log(), waiting, now)  # type: ignore[arg-type]
    assert age_s <= found <= max(1.0, age_s * 1.25)
    assert await oldest_age_s(Log(), waiting[1:], now) == 0.0  # type: ignore[arg-type]


def test_quantiles_are_estimated_within_their_bucket() -> None:
    registry = CollectorRegistry()
    seconds = Histogram("x_seconds", "x", ["stage", "more"], buckets=(1, 2, 4), registry=registry)
    for value in (0.5, 1.5, 1.5, 3.0):
        seconds.labels("a", "m").observe(value)
    seconds.labels("a", "n").observe(9.0)
    [timing] = Measurements(registry).timings("x_seconds", "stage")
    assert (timing.stage, timing.count, timing.sum_s) == ("a", 5, 15.5)
    assert timing.p50_s == pytest.approx(1.75)
    assert timing.p95_s == 4.0
    assert list(timing.buckets) == [(1.0, 1), (2.0, 3), (4.0, 4), (None, 5)]
    assert quantile(0.5, []) is None
    assert quantile(0.5, [(1.0, 0.0)]) is None


async def test_settings_name_their_origin_and_hide_secrets(
    app: WholeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORESTREAM_TTL_DAYS", "30")
    answer = await app.http.get("/v1/admin/settings")
    assert SECRET not in answer.text
    rows = {one["name"]: one for one in answer.json()["settings"]}
    assert rows["LORESTREAM_TTL_DAYS"]["origin"] == "environment LORESTREAM_TTL_DAYS"
    assert rows["LORESTREAM_HTTP_PORT"]["origin"] == "default"
    data_dir = rows["LORESTREAM_DATA_DIR"]
    assert data_dir["origin"] == "command line"
    assert data_dir["value"] == str(app.runtime.settings.data_dir)
    assert rows["LORESTREAM_PLAYER_KEY"]["value"] == "(hidden)"
    fixed = {one["name"]: one for one in answer.json()["limits"]}
    assert await app.ask("GET", "/v1/admin/keys") == {"file": None, "keys": []}
    assert fixed["events of one request"] == {
        "name": "events of one request",
        "value": 1000,
        "unit": "events",
    }


def test_keys_are_listed_without_their_hashes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    bearer(path, KeyScope.QUERY, KeyScope.INGEST, label="survival-1")
    answer = operators.read_keys(load_settings(api_keys_file=path))
    [key] = answer.keys
    assert (key.state, key.label, key.scopes) == ("live", "survival-1", ["ingest", "query"])
    assert not hasattr(key, "sha256")


async def test_erasures_are_listed_with_their_proof_and_audited(app: WholeApp) -> None:
    [memory_id] = await app.write({"agent_id": "a", "text": "one"})
    await app.erase(agent_id="a", memory_id=memory_id)
    await app.erase(agent_id="a")
    await app.erase(player="Bob")
    found = (await app.ask("GET", "/v1/erasures"))["erasures"]
    assert [one["kind"] for one in found] == ["player", "agent"]
    agent = found[1]
    assert agent["subjects"] == ["a"]
    single = await app.ask("GET", f"/v1/erasures/{agent['erasure_id']}")
    assert {name: agent[name] for name in single} == single
    assert agent["state"] == "done"
    assert agent["accepted_at"] < agent["log_gone_by"] < agent["dead_letters_gone_by"]
    assert "Bob" not in str(found)
    assert len((await app.ask("GET", "/v1/erasures?limit=1"))["erasures"]) == 1
    lines = (await app.ask("GET", "/v1/admin/audit"))["lines"]
    mine = [line for line in lines if line["erasure_id"] == agent["erasure_id"]]
    assert [line["event"] for line in mine] == ["erasure done", "erasure requested"]
    deleted = next(line for line in lines if line["event"] == "memory deleted")
    assert (deleted["memory_id"], deleted["by"]) == (memory_id, "")


def test_only_the_last_audit_lines_are_kept() -> None:
    for number in range(audit.KEPT_LINES + 5):
        audit.erasure_done(erasure_id=f"e{number}", kind="agent", tenant="t")
    found = audit.newest()
    assert len(found) == audit.KEPT_LINES
    assert found[0]["erasure_id"] == f"e{audit.KEPT_LINES + 4}"


async def test_the_last_call_of_each_task_is_kept(app: WholeApp) -> None:
    answer = await app.ask("GET", "/v1/admin/tasks")
    assert answer["runs"] == []
    assert {"dlq-retry", "replay", "alias-swap", "doctor"} <= set(answer["offered"])
    await app.http.post("/v1/admin/dlq-ls", json={})
    await app.http.post("/v1/admin/dlq-retry", json={"every": True, "dry_run": True})
    found = (await app.ask("GET", "/v1/admin/tasks"))["runs"]
    assert [(one["task"], one["state"]) for one in found] == [("dlq-retry", "done"), ("dlq-ls", "done")]
    assert found[1]["outcome"] == {"shown": 0, "total": 0}
    assert found[0]["started_at"] <= found[0]["ended_at"]


async def test_a_running_a_failed_and_an_abandoned_call_are_told_apart() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def run(_arguments: Any) -> ReportStream:
        yield Progress("copying", 1, 2, "records")
        reached.set()
        await go_on.wait()
        raise OperationRefused("no")
        yield Outcome({})

    runs = TaskRuns()
    [operation] = admin_routes.operations(tasks_by_name(AdminTask("copy", NoArguments, run)), runs)
    app = application("x", [operation], metrics=Metrics())
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        calling = asyncio.create_task(http.post("/v1/admin/copy", json={}))
        await reached.wait()
        [call] = runs.newest()
        assert (call.state, (call.progress or {})["done"]) == ("running", 1)
        go_on.set()
        await calling
        assert (call.state, call.error) == ("failed", "no")
        reached.clear()
        go_on.clear()
        calling = asyncio.create_task(http.post("/v1/admin/copy", json={}))
        await reached.wait()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        [call] = runs.newest()
        assert call.state == "aborted"


async def test_a_query_service_offers_the_tasks_that_look(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        offered = operators.tasks_of_query_service(runtime)
    assert sorted(offered) == ["cache-clear", "dlq-ls", "dlq-show", "doctor"]
