"""Files of exports: JSON Lines, packed by Zstandard unless their name ends in .jsonl; `-` is stdout or stdin."""

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
_STEP = 1024  # packed bytes at once: what they inflate to is bounded by Zstandard's best ratio, 32 MiB
_WINDOW = 2**27


@contextlib.contextmanager
def writing(name: str, *, force: bool) -> Generator[Callable[[bytes], object]]:
    """What takes the bytes. A file appears under its name when it is whole. Raises OperationRefused and LorestreamError."""
    if name == STANDARD:
        if sys.stdout.isatty():
            raise typer.BadParameter("packed data is not for a terminal: name a file, or pipe it")
        with _packed(sys.stdout.buffer) as write:
            yield write
        sys.stdout.flush()
        return
    path = Path(name)
    if path.exists() and not force:
        raise OperationRefused(f"{name} exists: name another file, or say --force")
    try:
        with (
            durable.replacing(path) as file,
            contextlib.nullcontext(file.write) if path.suffix == ".jsonl" else _packed(file) as write,
        ):
            yield write
    except OSError as error:
        raise LorestreamError(f"{name} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _packed(file: IO[bytes]) -> Generator[Callable[[bytes], object]]:
    with zstandard.ZstdCompressor(write_checksum=True).stream_writer(file, closefd=False) as packer:
        yield packer.write


@contextlib.contextmanager
def reading(name: str) -> Generator[IO[bytes]]:
    """The file, to be gone over as often as needed. Raises LorestreamError."""
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
    """Every line that is not empty, with its number from 1. One that is too long comes as its beginning only.

    Raises OperationRefused for packed data that is damaged or breaks off.
    """
    file.seek(0)
    number, pending = 1, bytearray()
    for chunk in _inflated(file):
        first, *others = chunk.split(b"\n")
        _extend(pending, first)
        for part in others:
            if pending.strip():
                yield number, bytes(pending)
            number += 1
            pending.clear()
            _extend(pending, part)
    if pending.strip():
        yield number, bytes(pending)


def _extend(pending: bytearray, part: bytes) -> None:
    pending += part[: max(0, MAX_LINE_BYTES + 1 - len(pending))]


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    packed = file.read(len(_MAGIC)) == _MAGIC
    file.seek(0)
    if not packed:
        while chunk := file.read(2**16):
            yield chunk
        return
    inflate, begun = _frame(), False
    while chunk := file.read(_STEP):
        while chunk:
            begun = True
            try:
                yield inflate.decompress(chunk)
            except zstandard.ZstdError as error:
                raise OperationRefused(f"the file is damaged: {error}") from error
            chunk = inflate.unused_data if inflate.eof else b""
            if inflate.eof:
                inflate, begun = _frame(), False
    if begun:
        raise OperationRefused("the file is damaged: it breaks off")


def _frame() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
