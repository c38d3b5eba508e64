"""Each `__init__.py` lists the files of its package, and names only what exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOTS = ("lorestream", "producers", "stream_workers", "query_service", "deploy")
PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix() for root in ROOTS for path in (ROOT / root).rglob("__init__.py")
)
_STEP = re.compile(r"^ +([A-Za-z_]\w*(?:\.\w+)+)(?<!\.py)(?<!\.proto)  +[^#\s]", re.MULTILINE)
"""A line of a call path: a dotted name without arguments, and what happens there."""


@functools.cache
def docstring(package: str) -> str:
    return ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()), clean=False) or ""


@functools.cache
def names(module: Path) -> frozenset[str]:
    """What is defined on the top level of a module, and in its classes: `function`, `Class`, `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if hasattr(one, "name")}
    return frozenset(found)


def test_each_module_and_package_has_a_line() -> None:
    missing: list[str] = []
    for package in PACKAGES:
        modules = {one.stem for one in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
        packages = {one.parent.name for one in (ROOT / package).glob("*/__init__.py")}
        listed = re.findall(r"^[ -]*(\w+)(?:\.py|/)?(?:  +|: )\S", docstring(package), re.MULTILINE)
        missing += [f"{package}/{one}" for one in sorted((modules | packages) - set(listed))]
    assert missing == []


def test_each_listed_file_exists() -> None:
    unknown: list[str] = []
    for package in PACKAGES:
        listed = re.findall(r"^[ -]*(\w+(?:\.\w+|/))(?:  +|: )\S", docstring(package), re.MULTILINE)
        files = [one for one in listed if one.endswith(("/", ".py", ".proto", ".json"))]
        unknown += [f"{package}/{one}" for one in files if not (ROOT / package / one).exists()]
    assert unknown == []


def exists(package: str, step: str) -> bool:
    """Whether it is `Class.method` of the package, `module.name` of it or beside it, or a name of a package beside it."""
    folder = ROOT / package
    first, _, rest = step.partition(".")
    second, _, last = rest.partition(".")
    places = [
        *((module, step) for module in folder.glob("*.py")),
        (folder / f"{first}.py", rest),
        (folder.parent / f"{first}.py", rest),
        (folder.parent / first / f"{second}.py", last),
    ]
    return any(module.is_file() and name in names(module) for module, name in places)


def test_the_steps_of_call_paths_exist() -> None:
    steps = [(package, step) for package in PACKAGES for step in _STEP.findall(docstring(package))]
    assert ("query_service", "rest._Routes.search") in steps
    assert [one for one in steps if not exists(*one)] == []
