"""Export files: JSON Lines, compressed with Zstandard unless the name ends in .jsonl; `-` is stdout or stdin."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO

import typer
import zstandard

from lorestream import durable
from lorestream.admin.export_format import MAX_LINE_BYTES
from lorestream.errors import LorestreamError, OperationRefused

STANDARD = "-"
_MAGIC = b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES = 1024  # compressed; bounds the decompressed chunk to 32 MiB at the best ratio of Zstandard
_MAX_WINDOW_BYTES = 2**27


@contextlib.contextmanager
def writing(name: str, *, force: bool) -> Generator[Callable[[bytes], object]]:
    """Open `name` for writing; yields the function that writes bytes.

    The file appears under its name only when it is complete. `force` overwrites an existing one.
    Raises OperationRefused if it exists, LorestreamError if it cannot be written, typer.BadParameter at a terminal.
    """
    if name == STANDARD:
        if sys.stdout.isatty():
            raise typer.BadParameter(
                "compressed data cannot be printed at a terminal: name a file, or use a pipe"
            )
        with _compressed(sys.stdout.buffer) as write:
            yield write
        sys.stdout.flush()
        return
    path = Path(name)
    if path.exists() and not force:
        raise OperationRefused(f"{name} exists already: choose another name, or overwrite it with --force")
    try:
        with (
            durable.replacing(path) as file,
            contextlib.nullcontext(file.write) if path.suffix == ".jsonl" else _compressed(file) as write,
        ):
            yield write
    except OSError as error:
        raise LorestreamError(f"{name} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _compressed(file: IO[bytes]) -> Generator[Callable[[bytes], object]]:
    with zstandard.ZstdCompressor(write_checksum=True).stream_writer(file, closefd=False) as compressor:
        yield compressor.write


@contextlib.contextmanager
def reading(name: str) -> Generator[IO[bytes]]:
    """Open `name` for reading; yields a seekable file (a temporary copy of stdin for `-`). Raises LorestreamError."""
    try:
        if name == STANDARD:
            with tempfile.TemporaryFile(prefix="lorestream-import-") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
                yield copy
        else:
            with Path(name).open("rb") as file:
                yield file
    except OSError as error:
        raise LorestreamError(f"{name} cannot be read: {error.strerror}") from error


def lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """All lines that are not empty, with their numbers from 1. A line that is too long is cut off.

    Raises OperationRefused for compressed data that is damaged or incomplete.
    """
    file.seek(0)
    number, pending = 1, bytearray()
    for chunk in _decompressed(file):
        first, *others = chunk.split(b"\n")
        _append(pending, first)
        for part in others:
            if pending.strip():
                yield number, bytes(pending)
            number += 1
            pending.clear()
            _append(pending, part)
    if pending.strip():
        yield number, bytes(pending)


def ends_within_a_line(file: IO[bytes]) -> bool:
    """Whether the last line of a file has no line feed. An export ends with one, compressed or not."""
    last = b"\n"
    file.seek(0)
    for chunk in _decompressed(file):
        last = chunk[-1:] or last
    return last != b"\n"


def _append(pending: bytearray, part: bytes) -> None:
    pending += part[: max(0, MAX_LINE_BYTES + 1 - len(pending))]


def _decompressed(file: IO[bytes]) -> Iterator[bytes]:
    compressed = file.read(len(_MAGIC)) == _MAGIC
    file.seek(0)
    if not compressed:
        while chunk := file.read(2**16):
            yield chunk
        return
    decompressor, in_frame = _new_decompressor(), False
    while chunk := file.read(_CHUNK_BYTES):
        while chunk:
            in_frame = True
            try:
                yield decompressor.decompress(chunk)
            except zstandard.ZstdError as error:
                raise OperationRefused(f"the file is damaged: {error}") from error
            chunk = decompressor.unused_data if decompressor.eof else b""
            if decompressor.eof:
                decompressor, in_frame = _new_decompressor(), False
    if in_frame:
        raise OperationRefused("the file is damaged: its end is missing")


def _new_decompressor() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
