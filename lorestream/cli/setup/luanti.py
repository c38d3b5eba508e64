"""A Luanti world: the mod is put into it, and its set-up is checked."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import producers
from lorestream.cli import terminal
from lorestream.cli.doctor.checks import Check, Verdict
from lorestream.errors import Misconfigured

MOD = "lorestream"
PERMISSION = "secure.http_mods"


def install(world: Path, conf: Path | None, *, force: bool, as_json: bool) -> None:
    """Copy the mod into the world, whole or not at all. Raises Misconfigured."""
    if not (world / "world.mt").is_file():
        raise Misconfigured(f"{world} is no Luanti world: it has no world.mt")
    target = world / "worldmods" / MOD
    updated = target.exists() or target.is_symlink()
    if updated and not force and not _is_ours(target):
        raise Misconfigured(f"{target} is not Lorestream's own copy of the mod: --force replaces it")
    try:
        _replace(target)
    except OSError as error:
        raise Misconfigured(f"cannot write {target}: {error.strerror or error}") from error
    _report(target, configuration_file(world, conf), updated=updated, as_json=as_json)


def _report(target: Path, file: Path | None, *, updated: bool, as_json: bool) -> None:
    allowed = _allowed(file)
    needed = None if MOD in allowed else f"{PERMISSION} = {', '.join([*_listed(file), MOD])}"
    if as_json:
        terminal.print_json(
            {
                "path": str(target),
                "updated": updated,
                "configuration": None if file is None else str(file),
                "line": needed,
            }
        )
        return
    terminal.print_line(f"{'updated' if updated else 'installed'} {target}")
    if needed is None:
        terminal.print_line(f"{file} lets the mod use HTTP already; restart the server")
    else:
        where = file or "the server's minetest.conf (luanti.conf in newer releases)"
        instead = " in place of the line that is there" if _listed(file) else ""
        terminal.print_line(
            f"now put this line into {where}{instead}, and restart the server:\n\n    {needed}\n"
        )


def checks(world: Path, conf: Path | None) -> Iterator[Check]:
    """Whether the world has the mod, in this version, and whether the server lets it use HTTP."""
    install_it = f"lorestream mod install {world}"
    if not (world / "world.mt").is_file():
        yield Check("luanti world", Verdict.FAILED, f"{world} has no world.mt", "name the folder of a world")
        return
    target = world / "worldmods" / MOD
    if not target.is_dir():
        yield Check("luanti mod", Verdict.FAILED, f"{target} is missing", install_it)
    elif changed := _differences(_source(), target):
        yield Check(
            "luanti mod", Verdict.WARNING, f"{target} differs in {', '.join(changed[:3])}", install_it
        )
    else:
        yield Check("luanti mod", Verdict.OK, f"{target} is this version's")
    yield _enabled(world)
    file = configuration_file(world, conf)
    line = f"{PERMISSION} = {', '.join([*_listed(file), MOD])}"
    if file is None:
        yield Check(
            "luanti http",
            Verdict.WARNING,
            "no minetest.conf was found",
            f"name it with --conf; it needs: {line}",
        )
    elif MOD in _allowed(file):
        yield Check("luanti http", Verdict.OK, f"{file} allows it")
    else:
        yield Check(
            "luanti http", Verdict.FAILED, f"{file} does not list {MOD} in {PERMISSION}", f"put in: {line}"
        )


def _enabled(world: Path) -> Check:
    """Mods in a world's own worldmods are loaded unless world.mt says otherwise."""
    said = read(world / "world.mt").get(f"load_mod_{MOD}", "true")
    if said.lower() in {"false", "0", "no"}:
        mend = f"set load_mod_{MOD} = true in {world / 'world.mt'}"
        return Check("luanti load_mod", Verdict.FAILED, f"world.mt says load_mod_{MOD} = {said}", mend)
    return Check("luanti load_mod", Verdict.OK, "world.mt lets it load")


def configuration_file(world: Path, given: Path | None) -> Path | None:
    """The server's configuration: the one named, else the first where Luanti looks by itself."""
    if given is not None:
        if not given.is_file():
            raise Misconfigured(f"{given} is not a file")
        return given
    folders = [
        Path("~/.minetest").expanduser(),
        Path("~/.luanti").expanduser(),
        Path("/etc/minetest"),
        Path("/etc/luanti"),
    ]
    if world.absolute().parent.name == "worlds":
        folders.insert(0, world.absolute().parent.parent)
    candidates = [folder / name for folder in folders for name in ("minetest.conf", "luanti.conf")]
    return next((path for path in candidates if path.is_file()), None)


def read(file: Path) -> dict[str, str]:
    """The settings of a Luanti configuration file; later lines win. Raises Misconfigured."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise Misconfigured(f"cannot read {file}: {error.strerror or error}") from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _listed(file: Path | None) -> list[str]:
    """The mods that may use HTTP so far."""
    given = "" if file is None else read(file).get(PERMISSION, "")
    return [name.strip() for name in given.split(",") if name.strip()]


def _allowed(file: Path | None) -> set[str]:
    """Trusted mods may use HTTP, too."""
    trusted = "" if file is None else read(file).get("secure.trusted_mods", "")
    return {*_listed(file), *(name.strip() for name in trusted.split(","))}


def _source() -> Path:
    return Path(next(iter(producers.__path__))) / "luanti" / MOD


def _is_ours(target: Path) -> bool:
    if target.is_symlink() or not (target / "mod.conf").is_file():
        return False
    return read(target / "mod.conf").get("name") == MOD and (target / "init.lua").is_file()


def _replace(target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix=".lorestream-") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        shutil.copytree(_source(), new)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            target.rename(old)
        new.rename(target)


def _differences(ours: Path, theirs: Path) -> list[str]:
    names = sorted(path.relative_to(ours).as_posix() for path in ours.rglob("*") if path.is_file())
    _, different, missing = filecmp.cmpfiles(ours, theirs, names, shallow=False)
    return sorted([*different, *missing])
