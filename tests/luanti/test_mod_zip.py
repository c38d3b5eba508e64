"""The archive of `make mod-zip` follows ContentDB's rules for a mod.

The rules: https://github.com/minetest/contentdb, app/flatpages/help/package_config.md and api.md (fields of `.cdb.json`,
keys of mod.conf), app/tasks/minetestcheck (names, dependencies, licence, translations), app/models/packages.py (length of
the short description, size of a screenshot).
"""

from __future__ import annotations

import json
import re
import struct
import zipfile

import pytest

from deploy.luanti import mod_zip

FOLDER = "lorestream/"
NAME = re.compile(r"[a-z0-9_]+")
FIELDS = {
    **dict.fromkeys(
        ["type", "title", "name", "short_description", "dev_state", "license", "media_license"], str
    ),
    **dict.fromkeys(["long_description", "repo", "website", "issue_tracker", "video_url", "donate_url"], str),
    **dict.fromkeys(["tags", "content_warnings"], list),
    "translation_url": str,
    "forums": int,
}
DEV_STATES = {
    "WIP",
    "BETA",
    "ACTIVELY_DEVELOPED",
    "MAINTENANCE_ONLY",
    "AS_IS",
    "DEPRECATED",
    "LOOKING_FOR_MAINTAINER",
}
# Of its tags, those that may describe this mod.
TAGS = {"server_tools", "developer_tools", "library", "multiplayer", "mobs", "chat"}
REPOSITORY = "https://git.example.org/someone/lorestream"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the archive: path below the mod's folder to content."""
    target = tmp_path_factory.mktemp("zip") / "new" / "lorestream.zip"
    mod_zip.main([str(target), "--repo", f"{REPOSITORY}.git"])
    first = target.read_bytes()
    mod_zip.write(target, REPOSITORY)
    assert target.read_bytes() == first
    assert len(first) < 2 * 2**20
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert all(name.startswith(FOLDER) and ".." not in name and "\n" not in name for name in names)
        return {name.removeprefix(FOLDER): archive.read(name) for name in names}


def conf(text: str) -> dict[str, str]:
    """A .conf file as ContentDB reads it: a key twice is an error."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = [tuple(part.strip() for part in line.split("=", 1)) for line in lines]
    assert len({pair[0] for pair in pairs}) == len(pairs)
    return dict(pairs)


def test_the_files_of_a_mod_are_there_and_nothing_else(files: dict[str, bytes]) -> None:
    """A mod at the root of its folder, with licence, README, API, translations and a screenshot; no hidden files but one."""
    assert {
        "init.lua",
        "mod.conf",
        "settingtypes.txt",
        "LICENSE",
        "README.md",
        "api.md",
        "screenshot.png",
    } < set(files)
    assert not {"game.conf", "modpack.conf", "texture_pack.conf"} & set(files)
    assert [name for name in files if re.search(r"(^|/)\.", name)] == [".cdb.json"]
    assert {name.rpartition(".")[2] for name in files} == {
        "lua",
        "md",
        "conf",
        "txt",
        "tr",
        "json",
        "png",
        "LICENSE",
    }
    assert {name.partition("/")[0] for name in files if "/" in name} == {"capture", "locale"}
    for name, content in files.items():
        assert name.endswith(".png") or b"\r" not in content.decode().encode(), name


def test_mod_conf_and_cdb_json_agree(files: dict[str, bytes]) -> None:
    """Names, dependencies and games are valid; both files describe the mod alike; every field is known."""
    mod = conf(files["mod.conf"].decode())
    assert NAME.fullmatch(mod["name"])
    assert f"{mod['name']}/" == FOLDER
    assert "release" not in mod
    assert mod["author"]
    for key in ("depends", "optional_depends", "supported_games"):
        names = [name.strip() for name in mod.get(key, "").split(",") if name.strip()]
        assert all(NAME.fullmatch(name) or (name == "*" and key == "supported_games") for name in names), key
        assert names or key == "depends"
    assert re.fullmatch(r"\d+\.\d+", mod["min_minetest_version"])

    meta = json.loads(files[".cdb.json"])
    for key, value in meta.items():
        assert isinstance(value, FIELDS[key]), key
    assert (meta["type"], meta["name"], meta["title"]) == ("MOD", mod["name"], mod["title"])
    assert meta["short_description"] == mod["description"]
    assert len(mod["description"]) <= 200
    assert meta["dev_state"] in DEV_STATES
    assert "server_tools" in meta["tags"]
    assert set(meta["tags"]) <= TAGS
    assert (meta["license"], meta["media_license"]) == ("MIT", "MIT")
    assert files["LICENSE"].startswith(b"MIT License")
    assert (meta["repo"], meta["issue_tracker"]) == (REPOSITORY, f"{REPOSITORY}/issues")


def test_the_long_description_says_what_is_sent_where(files: dict[str, bytes]) -> None:
    """It is the README without its title, has no links into the repository, and names the settings of the addresses."""
    text = json.loads(files[".cdb.json"])["long_description"]
    assert len(text) > 500
    assert files["README.md"].decode() == f"# Lorestream\n\n{text}"
    assert re.findall(r"\]\((?!https://)", text) == []
    section = text.partition("## What is sent, and where\n")[2].partition("\n## ")[0]
    for word in (
        "lorestream.url",
        "lorestream.query_url",
        "pseudonym",
        "IP addresses",
        "lorestream.capture.TYPE",
    ):
        assert word in section, word


def test_translations_have_the_form_that_the_engine_reads(files: dict[str, bytes]) -> None:
    """Each .tr file names its text domain first; escapes are known; arguments are in order in the source text."""
    found = [name for name in files if name.endswith(".tr")]
    assert "locale/lorestream.de.tr" in found
    for name in found:
        assert re.fullmatch(r"locale/lorestream\.[a-zA-Z_]+\.tr", name)
        first, *lines = files[name].decode().splitlines()
        assert first == "# textdomain: lorestream"
        for line in lines:
            source, text = re.split(r"(?<!@)=", line, maxsplit=1)
            arguments = re.findall(r"@(\d)", source)
            assert arguments == [str(n + 1) for n in range(len(arguments))], line
            assert set(re.findall(r"@(.)", source + text)) <= {*arguments, "=", "@", "n"}, line


def test_the_screenshot_has_a_size_that_contentdb_takes(files: dict[str, bytes]) -> None:
    """A PNG file of 3:2, at least 920 x 517 pixels, under 500 KiB."""
    image = files["screenshot.png"]
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", image[16:24])
    assert (width * 2 == height * 3, width >= 920, height >= 517) == (True, True, True), (width, height)
    assert len(image) < 500 * 1024


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:someone/lorestream.git", "https://github.com/someone/lorestream"),
        ("https://token@codeberg.org/someone/lorestream.git", "https://codeberg.org/someone/lorestream"),
        ("ssh://git@gitlab.com:22/group/sub/lorestream", "https://gitlab.com/group/sub/lorestream"),
        ("/srv/git/lorestream.git", None),
        ("../lorestream", None),
        ("", None),
    ],
)
def test_the_address_of_a_remote(remote: str, address: str | None) -> None:
    """A path on this machine is no public address, and what is secret in a remote is left out."""
    assert mod_zip.public_address(remote) == address
