"""docker-compose.yml and what it mounts, held against the code: there is no Docker where these tests run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from deploy import sbom
from deploy.local.kafka import HERE as KAFKA
from lorestream.settings import Settings, load_settings
from lorestream.settings.aliases import ALIASES, SECRETS
from tests import zygote
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
LORESTREAM = {
    name: service for name, service in SERVICES.items() if service["image"].startswith("lorestream:")
}
SERVING = {name: LORESTREAM[name] for name in ("gateway", "worker", "query")}
CLIENT = {"LORESTREAM_URL", "LORESTREAM_QUERY_URL", "LORESTREAM_API_KEY", "LORESTREAM_API_KEY_FILE"}
"""What the verbs that call a lorestream read."""


def known(name: str) -> bool:
    """Whether settings, their aliases or the client's verbs read this variable."""
    if name in CLIENT or name in ALIASES or name.removesuffix("_FILE") in SECRETS:
        return True
    if not name.startswith("LORESTREAM_"):
        return False
    part, _, field = name.removeprefix("LORESTREAM_").lower().partition("__")
    found = Settings.model_fields.get(part)
    if found is None or not field:
        return found is not None
    models = getattr(found.annotation, "__args__", (found.annotation,))
    return any(field in model.model_fields for model in models if hasattr(model, "model_fields"))


def mounts(service: dict) -> dict[str, tuple[str, bool]]:
    """Target -> (source, whether read-only)."""
    found = {}
    for volume in service.get("volumes", ()):
        if isinstance(volume, str):
            source, target, *mode = volume.split(":")
            found[target] = (source, mode == ["ro"])
        else:
            found[volume["target"]] = (volume["source"], volume.get("read_only", False))
    return found


def words(service: dict) -> list[str]:
    return [str(word) for word in (*service.get("entrypoint", ()), *service.get("command", ()))]


def test_it_has_what_the_distributed_shape_needs():
    assert SERVICES.keys() >= {"nginx", "gateway", "worker", "query", "kafka", "qdrant", "redis", "keys"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["obs"]} == {
        "prometheus",
        "grafana",
    }
    assert SERVICES["simulate"]["profiles"] == ["load"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name):
    tag = SERVICES[name]["image"].partition(":")[2]
    assert re.match(r"v?\d+\.\d+\.\d+", tag), tag


def test_the_engines_have_the_versions_that_we_test_with():
    assert SERVICES["kafka"]["image"] == "apache/kafka:4.1.0"
    assert "<kafka.version>4.1.0<" in (KAFKA / "pom.xml").read_text()
    assert SERVICES["qdrant"]["image"].startswith("qdrant/qdrant:v1.18.")


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, _ = service["user"].partition(":")
    assert int(user) > 0
    assert "privileged" not in service
    assert "container_name" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_the_loopback_only(name):
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")
        assert name in {"nginx", "prometheus", "grafana"}


def test_only_the_doors_have_a_way_out():
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name, service in SERVICES.items():
        if "network_mode" in service:
            assert service["network_mode"] == "none"
        else:
            assert ("outside" in service["networks"]) == ("ports" in service), name


def test_workers_can_be_scaled():
    assert "ports" not in SERVICES["worker"]


@pytest.mark.parametrize("name", LORESTREAM)
def test_every_setting_is_one_that_lorestream_reads(name):
    unknown = [variable for variable in LORESTREAM[name].get("environment", {}) if not known(variable)]
    assert not unknown


def test_an_unknown_setting_would_be_noticed():
    assert known("LORESTREAM_LOG__BOOTSTRAP")
    assert known("LORESTREAM_LOG__SASL_PASSWORD_FILE")
    assert not known("LORESTREAM_LOG__BOOTSTRAPS")
    assert not known("LORESTREAM_LOGS")
    assert not known("KAFKA_BOOTSTRAP")


@pytest.mark.parametrize("variable", re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
def test_what_a_user_may_set_is_a_setting(variable):
    assert known(variable)


@pytest.mark.parametrize("name", SERVING)
def test_the_settings_make_a_distributed_lorestream(name, monkeypatch, tmp_path):
    for variable in [each for each in os.environ if each.startswith("LORESTREAM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "player_key").write_text("k1:x\n")
    for variable, value in SERVING[name]["environment"].items():
        by_default = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))
        monkeypatch.setenv(variable, by_default.replace("/keys/player_key", str(tmp_path / "player_key")))
    settings = load_settings()
    assert (settings.log.kind, settings.store.kind, settings.cache.kind) == ("kafka", "qdrant", "redis")
    assert settings.log.bootstrap == "kafka:9092"
    assert settings.player_key is not None
    assert settings.api_keys_file == Path("/keys/keys.json")


@pytest.mark.parametrize("name", LORESTREAM)
def test_every_verb_takes_its_options(name):
    """The command line is run here, with --help behind it."""
    verb = SERVICES[name]["command"]
    if "entrypoint" in SERVICES[name]:
        assert words(SERVICES[name]) == ["make-keys", "/keys"]
        return
    command = [sys.executable, "-m", "lorestream.cli", *verb, "--help"]
    known_here = zygote.run(command, env=clean_environment(), timeout=60)
    assert known_here.returncode == 0, known_here.stderr
    for option in verb:
        assert not option.startswith("--") or option in known_here.stdout


def test_every_file_that_is_mounted_or_copied_is_there():
    for service in SERVICES.values():
        for source, read_only in mounts(service).values():
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert read_only
            else:
                assert source in COMPOSE["volumes"]
    for line in (ROOT / "deploy/Dockerfile").read_text().splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for source in [word for word in shlex.split(line)[1:-1] if not word.startswith("--")]:
                assert (ROOT / source).exists(), source
                assert f"!{source.rstrip('/')}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_every_volume_is_used():
    used = {source for service in SERVICES.values() for source, _ in mounts(service).values()}
    assert used >= COMPOSE["volumes"].keys()


def test_keys_are_written_by_one_container_and_read_by_the_others():
    writers = [name for name, service in SERVICES.items() if mounts(service).get("/keys") == ("keys", False)]
    assert writers == ["keys"]
    for service in SERVING.values():
        assert service["depends_on"]["keys"] == {"condition": "service_completed_successfully"}


def test_whoever_serves_says_how_it_is():
    for name, service in SERVICES.items():
        if name not in {"keys", "simulate", "prometheus", "grafana"}:
            assert service["healthcheck"]["test"][0] == "CMD"
    for needed in [needed for service in SERVICES.values() for needed in service.get("depends_on", ())]:
        assert needed in SERVICES


def test_redis_forgets_and_evicts():
    command = " ".join(words(SERVICES["redis"]))
    assert "--save  --appendonly no" in command
    assert "--maxmemory-policy allkeys-lru" in command


def test_the_image_that_serves_has_no_torch():
    stages = re.split(r"^FROM ", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    assert not [stage for stage in stages if "torch.txt" in stage]
    with_weights = [stage for stage in stages if "weights.txt" in stage]
    assert [stage.split()[2] for stage in with_weights] == ["model"]
    last = stages[-1]
    assert "--from=packages /opt/venv" in last
    assert "--from=model /opt/lorestream" in last
    assert "--from=model /opt/venv" not in last
    assert "\nUSER 10001:10001\n" in last
    assert "torch==" not in (ROOT / "requirements/server.txt").read_text()


def test_the_image_has_the_extras_that_its_users_are_told_of():
    installed = set(re.findall(r"-r (requirements/\S+)", (ROOT / "deploy/Dockerfile").read_text()))
    assert installed - {"requirements/build.txt"} == set(sbom.LOCKED)
    locked = "".join((ROOT / path).read_text() for path in sbom.LOCKED)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for requirement in [*extras["server"], *extras["mcp"], *extras["otel"]]:
        [name] = re.findall(r"^[\w-]+", requirement)
        assert f"\n{name}==" in f"\n{locked}", requirement


def test_the_image_is_of_the_version_that_this_is():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert {service["image"] for service in LORESTREAM.values()} == {f"lorestream:{version[1]}"}


def test_keys_are_made_once(tmp_path):
    script = ROOT / "deploy/make-keys.sh"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def made() -> dict[str, str]:
        subprocess.run(["sh", script, tmp_path], check=True, capture_output=True, env={"PATH": path})
        return {file.name: file.read_text() for file in tmp_path.iterdir() if not file.name.endswith(".lock")}

    first = made()
    assert first.keys() == {"player_key", "api_key", "keys.json"}
    assert re.fullmatch(r"k1:[0-9a-f]{64}\n", first["player_key"])
    assert re.fullmatch(r"[0-9a-f]+\.\S+\n", first["api_key"])
    assert made() == first
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())


def test_nginx_knows_the_services_by_their_names_and_ports():
    text = (ROOT / "deploy/nginx.conf").read_text()
    servers = re.findall(r"server (\w+):(\d+) resolve ", text)
    assert len(servers) == 4
    for name, port in servers:
        assert port in SERVING[name]["command"]
    for port in re.findall(r"listen (\d+)", text):
        assert any(published.endswith(f":{port}") for published in SERVICES["nginx"]["ports"])
