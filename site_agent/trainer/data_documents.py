# SPDX-License-Identifier: Apache-2.0
"""Documents of text and jsonl files, packed or not, one after the other: nothing is held but the current one.

A document of a text file is a line; of a jsonl file the text of one object, which may have several lines. Both lose
their line ends; empty ones are left out. So the same line at two sites, or once as text and once as an object, is on
the same side of the split.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

import zstandard

from site_agent.data_sets import (
    BadLineError,
    BrokenArchiveError,
    DataFormat,
    DataSet,
    MissingDataError,
    NotUtf8Error,
    UnknownFormatError,
    UnreadableDataError,
    where,
)

PACKINGS: Final = ("", ".gz", ".zst")
_STEMS: Final = {DataFormat.TEXT: ".txt", DataFormat.JSONL: ".jsonl"}
_PIECE_BYTES: Final = 1024 * 1024
_MAX_WINDOW_BYTES: Final = 2**31
"""zstd --long=31, as large collections are packed with."""


def suffixes(kind: DataFormat) -> tuple[str, ...]:
    """How files of a format may end."""
    if kind is DataFormat.MEGATRON:
        return (".bin",)
    return tuple(_STEMS[kind] + packing for packing in PACKINGS)


def files_of(data: DataSet) -> tuple[Path, ...]:
    """Files of a data set, by name ascending.

    Raises:
        MissingDataError: there is none.
        UnknownFormatError: the named file does not end as its format does.
    """
    path, ends = Path(data.path), suffixes(data.format)
    if data.format is DataFormat.MEGATRON and not path.exists():
        path = path.with_name(f"{path.name}.bin")
    expected = f"files that end in {' or '.join(ends)}"
    try:
        found = sorted(p for p in path.iterdir() if p.name.endswith(ends)) if path.is_dir() else [path]
    except OSError as error:
        raise UnreadableDataError(f"{where(data.name, path)}: expected a directory, found: {error.strerror}") from None
    if not found or not path.exists():
        raise MissingDataError(f"{where(data.name, path)}: expected {expected}, found none")
    if not found[0].name.endswith(ends):
        raise UnknownFormatError(f"{where(data.name, path)}: expected {expected}, found another ending")
    return tuple(found)


def text_files(data_dir: Path, language: str) -> list[Path]:
    """Files of one language, by name: `<language>.txt`, `<language>.<anything>.txt`, also with .gz or .zst, ascending.

    Raises:
        MissingDataError: there is none.
    """
    found = [
        path
        for path in data_dir.iterdir()
        if path.name.startswith((f"{language}.", f"{language}-", f"{language}_"))
        and path.name.endswith((".txt", ".txt.gz", ".txt.zst"))
    ]
    if not found:
        raise MissingDataError(
            f"{data_dir}: expected text of language {language}, found no {language}*.txt or {language}*.txt.gz",
            advice="Set data_dir and languages in the site's site.toml to what is there.",
        )
    return sorted(found)


def documents(data: DataSet, path: Path) -> Iterator[tuple[str, bytes]]:
    """Each document as text and as UTF-8.

    Raises:
        DataError: the file is missing, cannot be unpacked or decoded, or a line is not what it should be.
    """
    with opened(data.name, path) as file:
        for number, raw in enumerate(file, start=1):
            place = f"{where(data.name, path)}: line {number}"
            text = decoded(raw, place)
            if data.format is DataFormat.JSONL:
                text = _field(text, data.text_field, place) if text.strip() else ""
            if text := text.rstrip("\r\n"):
                yield text, _encoded(text, place)


def decoded(raw: bytes, place: str) -> str:
    """One line as text. Raises NotUtf8Error."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        found = f"byte {raw[error.start]:#04x} at {error.start}"
        raise NotUtf8Error(f"{place}: expected readable UTF-8 text, found {found}") from None


@contextmanager
def opened(name: str, path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file.

    Raises:
        DataError: also while the caller reads.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
            elif path.suffix == ".zst":
                yield cast(BinaryIO, io.BufferedReader(_ZstdFile(file), _PIECE_BYTES))
            else:
                yield file
    except FileNotFoundError:
        raise MissingDataError(f"{where(name, path)}: expected a file, found none") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        kind = "gzip" if path.suffix == ".gz" else "zstd"
        cause = "its end is missing" if isinstance(error, EOFError) else "it is damaged or something else"
        raise BrokenArchiveError(
            f"{where(name, path)}: expected readable UTF-8 text in a whole {kind} file, found that {cause}"
        ) from None
    except OSError as error:
        raise UnreadableDataError(f"{where(name, path)}: expected a readable file, found: {error.strerror}") from None


class _Unpacker(Protocol):
    """What zstandard's decompression objects do."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes) -> bytes: ...


class _ZstdFile(io.RawIOBase):
    """A .zst file of one or more frames. zstandard's own reader takes a file that is cut for one that ends."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._frame: _Unpacker | None = None
        self._left, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        while not self._ready:
            packed = self._left or self._file.read(_PIECE_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._unpack(packed)
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self, packed: bytes) -> None:
        frame = self._frame or cast(_Unpacker, self._decompressor.decompressobj())
        self._ready = memoryview(frame.decompress(packed))
        self._left = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame


def _field(line: str, name: str, place: str) -> str:
    """The text of one JSON object. What the line holds is not repeated."""
    expected = f'{place}: expected a JSON object with a text "{name}"'
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadLineError(f"{expected}, found no JSON") from None
    if not isinstance(found, dict):
        raise BadLineError(f"{expected}, found a {type(found).__name__}")
    if name not in found:
        raise BadLineError(f"{expected}, found an object without it")
    if not isinstance(found[name], str):
        raise BadLineError(f"{expected}, found a {type(found[name]).__name__} there")
    return str(found[name])


def _encoded(text: str, place: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise NotUtf8Error(
            f"{place}: expected text that can be written as UTF-8, found half a surrogate pair"
        ) from None
