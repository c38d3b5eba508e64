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
from lorestream.cli.setup.luanti_files import Configuration, Machine, configurations
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
    found = configurations(world, conf)
    try:
        _replace(target)
    except OSError as error:
        raise Misconfigured(f"cannot write {target}: {error.strerror or error}") from error
    _print_result(target, found, updated=updated, as_json=as_json)


def _print_result(target: Path, found: list[Configuration], *, updated: bool, as_json: bool) -> None:
    needed, unreadable = _needs(found)
    if as_json:
        first, line = (needed or [(one, None) for one in found] or [(None, _line([]))])[0]
        terminal.print_json(
            {
                "path": str(target),
                "updated": updated,
                "configuration": first and first.name,
                "read_by": first and first.reader,
                "line": line,
            }
        )
        return
    terminal.print_line(f"{'updated' if updated else 'installed'} {target}")
    if found and not needed and not unreadable:
        terminal.print_line("; ".join(f"{one} lets the mod use HTTP" for one in found))
    for message in unreadable:
        terminal.print_line(f"{message}: make sure that it has the line: {_line([])}")
    if found and not needed:
        terminal.print_line("restart the server")
    elif len(found) > 1:
        terminal.print_line("several files may be the server's: change the one that it reads, or each")
    for one, line in needed:
        instead = "" if line == _line([]) else ", in place of the existing line"
        terminal.print_line(f"now add this line to {one}{instead}, and restart the server:\n\n    {line}\n")
    if not found:
        where = "the server's minetest.conf (luanti.conf in newer releases)"
        terminal.print_line(f"now add this line to {where}, and restart the server:\n\n    {_line([])}\n")


def checks(world: Path, conf: Path | None, machine: Machine | None = None) -> Iterator[Check]:
    """Check that the world has this version of the mod, and that the server lets it use HTTP.

    `conf`: the server's configuration file; None = found on `machine` (None: this one).
    """
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
    yield _http(configurations(world, conf, machine))


def _http(found: list[Configuration]) -> Check:
    """Check that the server lets the mod use HTTP. A warning if it is not certain which file it reads."""
    name = "luanti http"
    if not found:
        fix = f"give it with --conf; it needs the line: {_line([])}"
        return Check(name, Verdict.WARNING, "no configuration file of a server was found", fix)
    needed, unreadable = _needs(found)
    if unreadable:
        return Check(name, Verdict.WARNING, "; ".join(unreadable), "run this as root, or give --conf")
    if not needed:
        return Check(name, Verdict.OK, "; ".join(f"{one} allows it" for one in found))
    evidence = "; ".join(f"{one} does not list {MOD} in {PERMISSION}" for one, _ in needed)
    if len(found) == 1:
        return Check(name, Verdict.FAILED, evidence, f"add the line: {needed[0][1]}")
    verdict = Verdict.FAILED if len(needed) == len(found) else Verdict.WARNING
    lines = "; ".join(f"to {one.name} the line: {line}" for one, line in needed)
    return Check(name, verdict, evidence, f"name the server's file with --conf, or add {lines}")


def _enabled(world: Path) -> Check:
    """Check that world.mt does not disable the mod. Mods in worldmods are loaded by default."""
    value = read(world / "world.mt").get(f"load_mod_{MOD}", "true")
    if value.lower() in {"false", "0", "no"}:
        fix = f"set load_mod_{MOD} = true in {world / 'world.mt'}"
        return Check("luanti load_mod", Verdict.FAILED, f"world.mt has load_mod_{MOD} = {value}", fix)
    return Check("luanti load_mod", Verdict.OK, "world.mt does not disable it")


def read(file: Path) -> dict[str, str]:
    """Parse a Luanti configuration file; the last of equal names counts. Raises Misconfigured."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise Misconfigured(f"cannot read {file}: {error.strerror or error}") from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _needs(found: list[Configuration]) -> tuple[list[tuple[Configuration, str]], list[str]]:
    """The files that do not let the mod use HTTP, each with the line that it needs; and which files cannot be read, and why."""
    needed: list[tuple[Configuration, str]] = []
    unreadable: list[str] = []
    for one in found:
        try:
            line = _missing_line({} if _absent(one.file) else read(one.file))
        except Misconfigured as error:
            unreadable.append(f"{one}: {error}")
            continue
        if line is not None:
            needed.append((one, line))
    return needed, unreadable


def _absent(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # reading it gives the reason
    return False


def _missing_line(settings: dict[str, str]) -> str | None:
    """The line that a file with these settings needs; None if it lets the mod use HTTP already."""
    trusted = {name.strip() for name in settings.get("secure.trusted_mods", "").split(",")}
    listed = _listed(settings)
    return None if MOD in trusted.union(listed) else _line(listed)


def _listed(settings: dict[str, str]) -> list[str]:
    """The mods in secure.http_mods."""
    return [name.strip() for name in settings.get(PERMISSION, "").split(",") if name.strip()]


def _line(listed: list[str]) -> str:
    return f"{PERMISSION} = {', '.join([*listed, MOD])}"


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
