"""`lorestream mod install`, and the checks of a Luanti world for `lorestream doctor`."""

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
    """Copy the mod into the world: completely, or nothing changes. Raises Misconfigured."""
    if not (world / "world.mt").is_file():
        raise Misconfigured(f"{world} is not a Luanti world: it has no world.mt")
    target = world / "worldmods" / MOD
    updated = target.exists() or target.is_symlink()
    if updated and not force and not _is_ours(target):
        raise Misconfigured(f"{target} is not a copy of this mod: use --force to replace it")
    try:
        _replace(target)
    except OSError as error:
        raise Misconfigured(f"cannot write {target}: {error.strerror or error}") from error
    _print_result(target, configuration_file(world, conf), updated=updated, as_json=as_json)


def _print_result(target: Path, file: Path | None, *, updated: bool, as_json: bool) -> None:
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
        terminal.print_line(f"{file} already lets the mod use HTTP; restart the server")
    else:
        where = file or "the server's minetest.conf (luanti.conf in newer releases)"
        instead = ", in place of the existing line" if _listed(file) else ""
        terminal.print_line(
            f"now add this line to {where}{instead}, and restart the server:\n\n    {needed}\n"
        )


def checks(world: Path, conf: Path | None) -> Iterator[Check]:
    """Check that the world has this version of the mod, and that the server lets it use HTTP."""
    install_it = f"lorestream mod install {world}"
    if not (world / "world.mt").is_file():
        yield Check(
            "luanti world", Verdict.FAILED, f"{world} has no world.mt", "give the directory of a world"
        )
        return
    target = world / "worldmods" / MOD
    if not target.is_dir():
        yield Check("luanti mod", Verdict.FAILED, f"{target} is missing", install_it)
    elif changed := _differences(_source(), target):
        yield Check(
            "luanti mod", Verdict.WARNING, f"{target} differs in {', '.join(changed[:3])}", install_it
        )
    else:
        yield Check("luanti mod", Verdict.OK, f"{target} has this version")
    yield _enabled(world)
    file = configuration_file(world, conf)
    line = f"{PERMISSION} = {', '.join([*_listed(file), MOD])}"
    if file is None:
        yield Check(
            "luanti http",
            Verdict.WARNING,
            "no minetest.conf found",
            f"give it with --conf; it needs the line: {line}",
        )
    elif MOD in _allowed(file):
        yield Check("luanti http", Verdict.OK, f"{file} allows it")
    else:
        yield Check(
            "luanti http",
            Verdict.FAILED,
            f"{file} does not list {MOD} in {PERMISSION}",
            f"add the line: {line}",
        )


def _enabled(world: Path) -> Check:
    """Check that world.mt does not disable the mod. Mods in worldmods are loaded by default."""
    value = read(world / "world.mt").get(f"load_mod_{MOD}", "true")
    if value.lower() in {"false", "0", "no"}:
        fix = f"set load_mod_{MOD} = true in {world / 'world.mt'}"
        return Check("luanti load_mod", Verdict.FAILED, f"world.mt has load_mod_{MOD} = {value}", fix)
    return Check("luanti load_mod", Verdict.OK, "world.mt does not disable it")


def configuration_file(world: Path, given: Path | None) -> Path | None:
    """The configuration file of the server: `given`, otherwise the first that exists where Luanti looks.

    None if there is none. Raises Misconfigured if `given` does not exist.
    """
    if given is not None:
        if not given.is_file():
            raise Misconfigured(f"{given} is not a file: give the server's configuration file with --conf")
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
    """Parse a Luanti configuration file; the last of equal names counts. Raises Misconfigured."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise Misconfigured(f"cannot read {file}: {error.strerror or error}") from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _listed(file: Path | None) -> list[str]:
    """The mods in secure.http_mods."""
    given = "" if file is None else read(file).get(PERMISSION, "")
    return [name.strip() for name in given.split(",") if name.strip()]


def _allowed(file: Path | None) -> set[str]:
    """The mods that may use HTTP: secure.http_mods and secure.trusted_mods."""
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
