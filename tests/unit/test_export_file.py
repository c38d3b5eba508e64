"""Export files: written content can be read, and damage is detected."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lorestream.admin.export_format import HEADER, MAX_LINE_BYTES, ExportedMemory
from lorestream.cli.admin import export_file
from lorestream.cli.admin.exports import _check_file
from lorestream.errors import LorestreamError, OperationRefused

LINES = [b'{"n": %d}' % number for number in range(20_000)]


def written(path: Path, lines: list[bytes] = LINES) -> Path:
    with export_file.writing(str(path), force=False) as write:
        for line in lines:
            write(line + b"\n")
    return path


def read(path: Path) -> list[bytes]:
    with export_file.reading(str(path)) as file:
        once = list(export_file.lines(file))
        assert list(export_file.lines(file)) == once
    assert [number for number, _ in once] == sorted({number for number, _ in once})
    return [line for _, line in once]


def exported(*texts: str) -> bytes:
    """An export that is not compressed."""
    lines = [ExportedMemory("m", "default", "a", text, 1.0, 1.0) for text in texts]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in [HEADER, *lines])


def test_an_export_that_was_cut_within_a_line_is_refused_as_a_whole() -> None:
    whole = exported("one", "two", "three")
    with pytest.raises(OperationRefused, match="breaks off in line 4"):
        _check_file(io.BytesIO(whole[:-20]), strict=False)
    # A line that is complete but for its line feed is no loss, and a bad line in the middle is no cut.
    assert _check_file(io.BytesIO(whole[:-1]), strict=False) == (3, frozenset())
    bad = whole.replace(b'"two"', b'""')
    assert _check_file(io.BytesIO(bad), strict=False) == (2, frozenset({3}))
    assert _check_file(io.BytesIO(zstandard.compress(bad)), strict=False) == (2, frozenset({3}))


@pytest.mark.parametrize("name", ["m.jsonl.zst", "m", "m.jsonl"])
def test_written_lines_can_be_read(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    assert read(path) == LINES
    assert (path.read_bytes()[:1] == b"{") == (name == "m.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_an_existing_file_is_overwritten_only_with_force(tmp_path: Path) -> None:
    path = written(tmp_path / "m")
    with pytest.raises(OperationRefused, match="--force"), export_file.writing(str(path), force=False):
        pass
    with export_file.writing(str(path), force=True) as write:
        write(b"new\n")
    assert read(path) == [b"new"]


def test_a_failed_export_keeps_the_existing_file(tmp_path: Path) -> None:
    path = written(tmp_path / "m")

    def fail_halfway() -> None:
        with export_file.writing(str(path), force=True) as write:
            write(b"half")
            raise LorestreamError("broken")

    with pytest.raises(LorestreamError, match="broken"):
        fail_halfway()
    assert read(path) == LINES
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


def test_errors_of_the_file_system(tmp_path: Path) -> None:
    with (
        pytest.raises(LorestreamError, match="cannot be written"),
        export_file.writing(f"{tmp_path}/x/m", force=False),
    ):
        pass
    with pytest.raises(LorestreamError, match="cannot be read"), export_file.reading(f"{tmp_path}/m"):
        pass


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_truncated_compressed_data_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "m")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(OperationRefused, match="damaged"):
        read(path)


def test_a_changed_byte_is_detected(tmp_path: Path) -> None:
    """Some header bytes may change without effect; but no content is ever read that was not written."""
    path = written(tmp_path / "m")
    whole, refused = bytearray(path.read_bytes()), 0
    for at in range(5, len(whole), len(whole) // 20):
        broken = whole.copy()
        broken[at] ^= 0x10
        path.write_bytes(broken)
        try:
            assert read(path) == LINES
        except OperationRefused as error:
            refused += "damaged" in str(error)
    assert refused > 10


def test_garbage_after_compressed_data_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "m")
    path.write_bytes(path.read_bytes() + b"rubbish")
    with pytest.raises(OperationRefused, match="damaged"):
        read(path)


def test_concatenated_files_are_read_as_one(tmp_path: Path) -> None:
    packed = zstandard.compress(b"a\nb") + zstandard.compress(b"c\n") + zstandard.compress(b"d")
    (tmp_path / "m").write_bytes(packed)
    assert read(tmp_path / "m") == [b"a", b"bc", b"d"]


def test_a_line_without_an_end_is_cut_off() -> None:
    for content in (b"x" * 3_000_000, zstandard.compress(b"x" * 3_000_000)):
        [(number, line)] = export_file.lines(io.BytesIO(content + b""))
        assert (number, line) == (1, b"x" * (MAX_LINE_BYTES + 1))


@given(st.lists(st.binary(max_size=5)), st.integers(1, 7))
def test_line_numbers_are_those_of_an_editor(parts: list[bytes], step: int) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(step, size or step))

    content = b"\n".join(parts)
    if content.startswith(b"\x28"):
        return
    expected = [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert list(export_file.lines(Slow(content))) == expected
