"""The wheel: what a client installation needs and can do, and that `lorestream up` runs from the extra `server`.

Each environment is a new one. It holds the wheel, and of the packages of the running environment those that the
wheel's metadata asks for: no index is needed.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.local.process import free_port
from tests.processes import HASH, clean_environment, stopped, wait_for_ready

ROOT = Path(__file__).parents[2]
CLIENT_LIMIT_BYTES = 6 * 2**20
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without isolation: hatchling is in the running environment."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [built] = target.glob("*.whl")
    return built


def requirements(name: str, extra: str) -> Iterator[Requirement]:
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def needed(wheel: Path, extra: str = "") -> set[str]:
    """The names of all packages that the wheel needs with this extra, from its own metadata and theirs."""
    with zipfile.ZipFile(wheel) as archive:
        [path] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = importlib.metadata.PathDistribution(zipfile.Path(archive, path.rpartition("/")[0] + "/"))
        lines = metadata.metadata.get_all("Requires-Dist") or []
    first = [Requirement(line) for line in lines]
    wanted = [
        (str(canonicalize_name(one.name)), each)
        for one in first
        if one.marker is None or one.marker.evaluate({"extra": extra})
        for each in ("", *one.extras)
    ]
    found: set[tuple[str, str]] = set()
    while wanted:
        if (one := wanted.pop()) not in found:
            found.add(one)
            for requirement in requirements(*one):
                name = str(canonicalize_name(requirement.name))
                wanted += [(name, each) for each in ("", *requirement.extras)]
    return {name for name, _ in found}


def environment(folder: Path, wheel: Path, extra: str = "") -> tuple[Path, int]:
    """A new environment with the wheel and the packages that it needs; its folder, and how many bytes these take."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    target = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    size = 0
    for name in needed(wheel, extra):
        for file in importlib.metadata.files(name) or []:
            top = file.parts[0]
            if top in {"..", "__pycache__"}:
                continue
            size += Path(file.locate()).stat().st_size if file.suffix != ".pyc" else 0
            if not (target / top).exists():
                (target / top).symlink_to(SITE_PACKAGES / top)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python"]
    subprocess.run([*install, str(folder / "bin" / "python"), str(wheel)], check=True, timeout=60)
    return folder, size + sum(info.file_size for info in zipfile.ZipFile(wheel).infolist())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> tuple[Path, int]:
    return environment(tmp_path_factory.mktemp("client") / "venv", wheel)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the environment, away from the checkout."""
    return subprocess.run(
        [str(folder / "bin" / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )


def test_the_wheel_holds_the_four_packages_with_their_types(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {"lorestream", "producers", "query_service", "stream_workers"}
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)


def test_the_client_is_small_and_needs_nothing_of_the_server(wheel: Path, client: tuple[Path, int]):
    assert not needed(wheel) & {
        "typer",
        "openvino",
        "grpcio",
        "qdrant-client",
        "aiokafka",
        "numpy",
        "starlette",
    }
    assert client[1] < CLIENT_LIMIT_BYTES, f"{client[1] / 2**20:.1f} MiB"
    program = "import lorestream.client, sys; print(lorestream.client.MemoryClient.__name__, 'numpy' in sys.modules)"
    ended = run(client[0], "python", "-W", "error", "-c", program)
    assert (ended.returncode, ended.stdout) == (0, "MemoryClient False\n"), ended.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["up"], ["search", "npc:a", "where is the mill"]])
def test_the_command_of_a_client_installation_says_what_to_install(
    client: tuple[Path, int], arguments: list[str]
):
    ended = run(client[0], "lorestream", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith("lorestream: ")
    assert "`pip install '.[server]'`" in line


def test_up_runs_from_the_extra_server(tmp_path: Path, wheel: Path):
    folder, _ = environment(tmp_path / "venv", wheel, "server")
    helped = run(folder, "lorestream", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "simulate" in helped.stdout
    port = free_port()
    command = [
        str(folder / "bin" / "lorestream"),
        "up",
        "--data",
        str(tmp_path / "data"),
        "--port",
        str(port),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--grpc-port", str(free_port())],
            env=clean_environment(**HASH, PYTHONPATH=""),
            stdout=log,
            stderr=log,
            cwd=tmp_path,
        )
    with stopped(process):
        wait_for_ready(process, f"http://127.0.0.1:{port}", tmp_path / "log")
        assert "Lorestream" in httpx2.get(f"http://127.0.0.1:{port}/", timeout=30).text
