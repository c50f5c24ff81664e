# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses as JSON files: what agent and training job exchange, and what a training checkpoint lists.

A reader checks every type and range of JSON, takes defaults for missing fields that have one, and ignores fields it
does not know, so that an agent and a job of neighbouring releases understand each other.
"""

import json
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from federation.durable.api import FileSystem
from federation.errors import ObjectNotFoundError, ProtocolError

T = TypeVar("T")

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longest JSON file that is read."""


def encode(value: object) -> bytes:
    """A dataclass as deterministic, human-readable JSON (UTF-8, one line end at the end)."""
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return text.encode() + b"\n"


def decode(kind: type[T], data: bytes, source: str = "record") -> T:
    """The dataclass that `encode` wrote.

    Raises:
        ProtocolError: not JSON, a field is missing, or a value has another type; names `source` and the field.
    """
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise ProtocolError(f"{source}: expected JSON, found {data[:40]!r} ({error})") from None
    result: T = _typed(kind, raw, source)
    return result


def write_record(fs: FileSystem, path: str, value: object) -> None:
    """Replaces `path` atomically and durably with the dataclass as JSON."""
    fs.write(path, encode(value))


def read_record(fs: FileSystem, path: str, kind: type[T]) -> T | None:
    """The dataclass stored at `path`, or None if there is no such file.

    Raises:
        ProtocolError: the file is not what `write_record` writes.
        LimitExceededError: it is longer than `MAX_RECORD_BYTES`.
    """
    try:
        data = fs.read(path, max_bytes=MAX_RECORD_BYTES)
    except ObjectNotFoundError:
        return None
    return decode(kind, data, path)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, StrEnum) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(kind: Any, raw: Any, where: str) -> Any:
    """`raw` as a value of `kind`: dataclass, tuple[X, ...], dict[str, X], X | None, StrEnum, str, int, float, bool."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        inner = next(arg for arg in get_args(kind) if arg is not type(None))
        return None if raw is None else _typed(inner, raw, where)
    if origin is tuple:
        _expect(isinstance(raw, list), "a list", raw, where)
        return tuple(_typed(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(raw))
    if origin is dict:
        _expect(isinstance(raw, dict), "an object", raw, where)
        return {key: _typed(get_args(kind)[1], item, f"{where}.{key}") for key, item in raw.items()}
    if is_dataclass(kind):
        return _record(kind, raw, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        _expect(raw in list(kind), "one of " + ", ".join(kind), raw, where)
        return kind(raw)
    return _scalar(kind, raw, where)


def _scalar(kind: Any, raw: Any, where: str) -> Any:
    if kind is Any:
        return raw
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    _expect(isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool)), kind.__name__, raw, where)
    return raw


def _record(kind: Any, raw: Any, where: str) -> Any:
    _expect(isinstance(raw, dict), f"an object ({kind.__name__})", raw, where)
    values = {}
    for field in fields(kind):
        if field.name in raw:
            values[field.name] = _typed(_hints(kind)[field.name], raw[field.name], f"{where}: {field.name}")
        elif not _has_default(field):
            raise ProtocolError(f"{where}: expected a field {field.name}, found {', '.join(sorted(raw)) or 'none'}")
    return kind(**values)


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _expect(holds: bool, expected: str, found: Any, where: str) -> None:
    if not holds:
        raise ProtocolError(f"{where}: expected {expected}, found {found!r:.80}")
