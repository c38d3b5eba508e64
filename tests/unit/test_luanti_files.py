"""`lorestream mod install` and `lorestream doctor` find the configuration file that a Luanti server reads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lorestream.cli.doctor.checks import Check, Verdict
from lorestream.cli.setup import luanti
from lorestream.cli.setup.luanti_files import Machine, configurations

WRAPPER = (
    "#!/bin/sh\nset -e\nexec /usr/lib/minetest/minetestserver \\\n    --config /etc/minetest/minetest.conf \\\n"
    '    --logfile /var/log/minetest/minetest.log \\\n    "$@"\n'
)
ALLOWS = "secure.http_mods = lorestream\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine with one user."""
    return Machine(root=tmp_path, home=tmp_path / "home/ann", environ={})


def write(machine: Machine, name: str, text: str = "name = ann\n") -> Path:
    """Write a file of the machine."""
    file = machine.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def world_in(folder: Path) -> Path:
    """A new world in the folder of a user."""
    world = folder / "worlds" / "home"
    world.mkdir(parents=True)
    (world / "world.mt").write_text("gameid = minetest\n")
    return world


def http(world: Path, machine: Machine) -> Check:
    """The result of the check whether the mod may use HTTP."""
    target = world / "worldmods" / "lorestream"
    target.mkdir(parents=True, exist_ok=True)
    return next(check for check in luanti.checks(world, None, machine) if check.name == "luanti http")


def files(world: Path, machine: Machine) -> list[Path]:
    """The files that are found, in order."""
    return [one.file for one in configurations(world, None, machine)]


def test_the_file_of_debians_wrapper_is_named_beside_the_users(machine: Machine):
    program = write(machine, "usr/games/minetestserver", WRAPPER)
    program.chmod(0o755)
    system = write(machine, "etc/minetest/minetest.conf")
    own = write(machine, "home/ann/.minetest/minetest.conf", ALLOWS)
    world = world_in(machine.home / ".minetest")
    assert files(world, machine) == [own, system]
    doubtful = http(world, machine)
    assert doubtful.verdict is Verdict.WARNING
    assert "(read by Debian's minetestserver) does not list lorestream" in doubtful.evidence
    assert str(system) in str(doubtful.fix)
    own.write_text("")
    assert http(world, machine).verdict is Verdict.FAILED
    own.write_text(ALLOWS)
    system.write_text("secure.http_mods = irc , lorestream\n")
    assert http(world, machine).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("/var/games/minetest-server/.minetest", "etc/minetest/minetest.conf"),
        ("/var/lib/luanti/default", "etc/luanti/default.conf"),
        ("/var/lib/private/luanti/pvp", "etc/luanti/pvp.conf"),
    ],
)
def test_the_worlds_of_debians_services(machine: Machine, folder: str, file: str):
    world = Path(folder) / "worlds" / "world"
    (found,) = configurations(world, None, machine)
    assert (found.file, found.name) == (machine.root / file, f"/{file}")


@pytest.mark.parametrize(
    "folder",
    [
        ".minetest",
        ".luanti",
        ".var/app/org.luanti.luanti/.minetest",
        ".var/app/net.minetest.Minetest/.minetest",
        "snap/luanti/common/.minetest",
    ],
)
def test_the_folders_of_a_user(machine: Machine, folder: str, tmp_path: Path):
    world = world_in(tmp_path / "elsewhere")
    assert files(world, machine) == []
    file = write(machine, f"home/ann/{folder}/minetest.conf", ALLOWS)
    assert files(world, machine) == [file]
    assert http(world, machine).verdict is Verdict.OK


def test_a_folder_of_an_image_and_one_named_by_the_environment(machine: Machine, tmp_path: Path):
    image = write(machine, "data/main-config/minetest.conf")
    world = world_in(tmp_path / "data")
    own = write(machine, "own/minetest.conf")
    named = Machine(machine.root, machine.home, {"MINETEST_USER_PATH": str(own.parent)})
    assert files(world, named) == [image, own]


def test_without_any_file_the_check_is_a_warning(machine: Machine, tmp_path: Path):
    check = http(world_in(tmp_path / "elsewhere"), machine)
    assert (check.verdict, check.fix) == (
        Verdict.WARNING,
        "give it with --conf; it needs the line: secure.http_mods = lorestream",
    )


@contextmanager
def running(arguments: list[str], environment: dict[str, str], folder: Path) -> Iterator[str]:
    """A process with the command line of a server; its id."""
    command = ["/usr/lib/minetest/minetestserver", "-c", "echo; read _", *arguments]
    with subprocess.Popen(
        command,
        executable="/bin/sh",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=folder,
    ) as process:
        assert process.stdout
        process.stdout.readline()  # it runs
        yield str(process.pid)
        process.communicate(b"\n")


@pytest.mark.parametrize("how", ["world", "name", "none"])
def test_the_file_of_the_running_server_is_the_only_one(tmp_path: Path, how: str):
    home = tmp_path / "home"
    world, other = world_in(home / ".minetest"), world_in(tmp_path / "other")
    (home / ".minetest" / "minetest.conf").write_text(ALLOWS)
    config = tmp_path / "server.conf"
    config.write_text("name = ann\n")
    options = {"world": ["--world", str(world)], "name": ["--worldname", "home"], "none": []}[how]
    wrapped = ["--config", "/etc/minetest/minetest.conf", *options, "--config", "server.conf"]
    with running(wrapped, {"HOME": str(home)}, tmp_path) as process:
        (found,) = configurations(world, None)
        assert (found.file, found.reader) == (config, f"read by process {process}")
        check = next(c for c in luanti.checks(world, None) if c.name == "luanti http")
        assert all(process not in one.reader for one in configurations(other, None))
    assert check.verdict is Verdict.FAILED


def test_a_running_server_without_config_reads_its_users_file(tmp_path: Path):
    world = world_in(tmp_path / ".minetest")
    with running(["--world", str(world)], {"HOME": str(tmp_path)}, tmp_path):
        (found,) = configurations(world, None)
    assert found.file == tmp_path / ".minetest" / "minetest.conf"
    with running(["--world", str(world)], {"MINETEST_USER_PATH": "/srv/x"}, tmp_path):
        (found,) = configurations(world, None)
    assert found.file == Path("/srv/x/minetest.conf")


def test_a_server_in_a_container_has_its_own_file_under_the_same_name(machine: Machine):
    """Docker: the world and the configuration are folders of the host, mounted under other names."""
    data, conf = machine.root / "srv/data", machine.root / "srv/conf"
    world = world_in(data / ".minetest")
    inside = machine.root / "inside"
    for folder, name in ((data, "var/lib/minetest"), (conf, "etc/minetest")):
        folder.mkdir(exist_ok=True)
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).symlink_to(folder)
    (conf / "minetest.conf").write_text("server_name = ann\n")
    command = ["/usr/local/bin/luantiserver", "--config", "/etc/minetest/minetest.conf", "--gameid", "x"]
    write(machine, "proc/77/cmdline", "\0".join(command))
    write(machine, "proc/77/environ", "PATH=/bin\0HOME=/var/lib/minetest\0")
    (machine.root / "proc/77/root").symlink_to(inside)
    (machine.root / "proc/77/cwd").symlink_to("/var/lib/minetest")
    (found,) = configurations(world, None, machine)
    assert found.file.samefile(conf / "minetest.conf")
    assert str(found) == "/etc/minetest/minetest.conf (read by process 77 in its container)"
    assert http(world, machine).verdict is Verdict.FAILED


def test_a_server_in_a_flatpak_is_named_with_this_machines_path(machine: Machine):
    """Inside, the folder of the application is the user's .minetest."""
    folder = machine.home / ".var/app/org.luanti.luanti/.minetest"
    world = world_in(folder)
    (folder / "minetest.conf").write_text(ALLOWS)
    inside = machine.root / "inside/home/ann"
    inside.mkdir(parents=True)
    (inside / ".minetest").symlink_to(folder)
    write(machine, "proc/80/cmdline", "/app/bin/luanti\0--server\0--worldname\0home\0")
    write(machine, "proc/80/environ", "HOME=/home/ann\0")
    (machine.root / "proc/80/root").symlink_to(machine.root / "inside")
    (machine.root / "proc/80/cwd").symlink_to("/")
    (found,) = configurations(world, None, machine)
    assert (found.file, found.reader) == (folder / "minetest.conf", "read by process 80")


def test_a_server_of_another_user_is_named_with_doubt(machine: Machine, tmp_path: Path):
    """Its command line can be read, and nothing else."""
    file = write(machine, "etc/server.conf", ALLOWS)
    write(machine, "proc/78/cmdline", "\0".join(["luanti", "--server", "--config", str(file)]))
    write(machine, "proc/79/cmdline", "luanti\0--go\0--config\0/a/client.conf")
    (found,) = configurations(world_in(tmp_path / "elsewhere"), None, machine)
    assert found.file == file
    assert "another user" in found.reader
