"""Which configuration file a Luanti server reads: that of a running server of the world, else where servers look."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorestream.errors import Misconfigured

NAMES = ("minetest.conf", "luanti.conf")
SERVERS = ("minetestserver", "luantiserver")
# The client's programs are servers with --server.
CLIENTS = ("minetest", "luanti")
# The folders of a user, below the home directory: Debian and others, newer releases, Flathub's two names, the snap.
_USER_FOLDERS = (
    ".minetest",
    ".luanti",
    ".var/app/org.luanti.luanti/.minetest",
    ".var/app/net.minetest.Minetest/.minetest",
    "snap/luanti/common/.minetest",
    "snap/minetest/common/.minetest",
)
# Debian's services: the folder of their worlds, and the file that they read. A group is the name of the instance.
_SERVICES = (
    (re.compile(r"/var/games/minetest-server/"), "/etc/minetest/minetest.conf"),
    (re.compile(r"/var/lib/(?:private/)?luanti/([^/]+)/"), r"/etc/luanti/\1.conf"),
)
# Where the images of luanti-org and Debian's services keep it, then linuxserver.io's image below the user's folder.
_SYSTEM_FILES = ("etc/minetest/minetest.conf", "etc/luanti/default.conf", "etc/luanti/minetest.conf")
_IMAGE_FOLDER = "main-config"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file, and who reads it.

    `file`: the path by which it can be opened here. `reader`: who reads it, as text. `name`: its path as that reader sees
    it, which differs from `file` in a container.
    """

    file: Path
    reader: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reader})"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look. The defaults are this machine and this user."""

    root: Path = Path("/")
    home: Path = field(default_factory=Path.home)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def programs(self) -> str:
        """The search path of programs, with Debian's folder of games."""
        folders = self.environ.get("PATH", "").split(os.pathsep)
        return os.pathsep.join([*folders, str(self.root / "usr/games"), str(self.root / "usr/local/games")])


def configurations(world: Path, given: Path | None, machine: Machine | None = None) -> list[Configuration]:
    """The configuration files that a server of this world reads or may read; several if that is not certain.

    `given` if it is not None; otherwise those of the running servers of this world; otherwise that of the Debian service
    whose folder holds the world; otherwise every existing file where servers look, the likeliest first.
    Raises Misconfigured if `given` does not exist.
    """
    if given is not None:
        if not given.is_file():
            raise Misconfigured(f"{given} is not a file: give the server's configuration file with --conf")
        return [Configuration(given, "given with --conf", str(given))]
    here = machine or Machine()
    if running := list(_running(world, here)):
        return running
    for pattern, template in _SERVICES:
        if match := pattern.match(f"{world.absolute()}/"):
            name = match.expand(template)
            return [Configuration(here.root / name.lstrip("/"), "read by Debian's service", name)]
    return _existing(world, here)


def _existing(world: Path, machine: Machine) -> list[Configuration]:
    """The files that exist where servers look, each once."""
    found: dict[Path, Configuration] = {}
    for file, reader in _places(world, machine):
        if file.is_file():
            found.setdefault(file.resolve(), Configuration(file, reader, str(file)))
    return list(found.values())


def _places(world: Path, machine: Machine) -> Iterator[tuple[Path, str]]:
    parent = world.absolute().parent
    if parent.name == "worlds":
        for folder in (parent.parent / _IMAGE_FOLDER, parent.parent):
            yield from ((folder / name, "read by servers without --config") for name in NAMES)
    for program in SERVERS:
        if file := _of_wrapper(program, machine):
            yield file, f"read by Debian's {program}"
    own = machine.environ.get("MINETEST_USER_PATH")
    for folder in ([Path(own)] if own else []) + [machine.home / name for name in _USER_FOLDERS]:
        yield from ((folder / name, "read by servers of this user without --config") for name in NAMES)
    for name in _SYSTEM_FILES:
        yield machine.root / name, "read by servers of the system"


def _of_wrapper(program: str, machine: Machine) -> Path | None:
    """The file after --config where the program is a shell script, as Debian's is."""
    if (path := shutil.which(program, path=machine.programs)) is None:
        return None
    with Path(path).open("rb") as script:
        text = script.read(4096)
    match = re.search(rb"--config\s+(/[^\s\\]+)", text) if text.startswith(b"#!") else None
    return machine.root / os.fsdecode(match[1]).lstrip("/") if match else None


def _running(world: Path, machine: Machine) -> Iterator[Configuration]:
    """The files of the running servers that have this world open, or may have it."""
    for entry in sorted((machine.root / "proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            arguments = [os.fsdecode(part) for part in (entry / "cmdline").read_bytes().split(b"\0")]
        except OSError:  # it has ended, or is hidden
            continue
        program = Path(arguments[0]).name
        if program in SERVERS or (program in CLIENTS and "--server" in arguments):
            yield from _of_process(entry, arguments, world, machine)


def _of_process(entry: Path, arguments: list[str], world: Path, machine: Machine) -> Iterator[Configuration]:
    def option(*names: str) -> str | None:
        # The last counts: Debian's program passes options of its own before those that it is given.
        values = [value for name, value in itertools.pairwise(arguments) if name in names]
        return values[-1] if values else None

    config, opened = option("--config"), option("--world", "--map-dir")
    reader = f"read by process {entry.name}"
    try:
        root = entry / "root"
        cwd = (entry / "cwd").readlink()
        user = _user_folder(entry, root)
    except OSError:  # another user's process: only its command line can be read
        if config is not None and opened in {None, str(world.absolute())}:
            doubt = "of another user: run this as root to be sure that it has this world"
            yield Configuration(Path(config), f"{reader} {doubt}", config)
        return
    # Without both options, the server opens a world in its user's folder, which may be this one.
    path = cwd / opened if opened else user / "worlds" / (option("--worldname") or world.name)
    if _same(_below(root, path), world):
        name = cwd / config if config else user / NAMES[0]
        seen = _below(root, name)
        # In a container or flatpak it may have another file under that name. This machine's name for it is better.
        here = [name, *(file for file, _ in _places(world, machine))]
        if seen.exists() and not any(_same(file, seen) for file in here):
            yield Configuration(seen, f"{reader} in its container", str(name))
        else:
            file = next((file for file in here if _same(file, seen)), name)
            yield Configuration(file, reader, str(file))


def _user_folder(entry: Path, root: Path) -> Path:
    """The folder of the server's user, as the server sees it."""
    pairs = (os.fsdecode(pair).partition("=") for pair in (entry / "environ").read_bytes().split(b"\0"))
    environment = {name: value for name, _, value in pairs}
    if own := environment.get("MINETEST_USER_PATH"):
        return Path(own)
    # Luanti does not start without one of the two.
    folders = [Path(environment.get("HOME", "/")) / name for name in (".minetest", ".luanti")]
    return next((folder for folder in folders if _below(root, folder).is_dir()), folders[0])


def _below(root: Path, path: Path) -> Path:
    return root / str(path).lstrip("/")


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
