# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses as JSON files: what agent and training job exchange, and what a training checkpoint lists.

A reader checks every type and range of JSON, takes defaults for missing fields that have one, and ignores fields it
does not know, so that an agent and a job of neighbouring releases understand each other.
"""

import json
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from federation.durable.api import FileSystem
from federation.errors import ObjectNotFoundError, ProtocolError

T = TypeVar("T")
Reader: TypeAlias = Callable[[Any, str], Any]
"""Turns what JSON holds at a place into a value; takes the place's name for its complaints."""

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
    known: Any = kind
    result: T = _reader(known)(raw, source)
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
def _reader(kind: Any) -> Reader:
    """What makes a `kind` of JSON: dataclass, tuple[X, ...], tuple[X, Y], dict[str, X], X | None, StrEnum, str, int,
    float, bool.

    Types are looked into once: an agent reads a few such files in every pass.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _optional(_reader(next(argument for argument in arguments if argument is not type(None))))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return _fixed_tuple([_reader(argument) for argument in arguments])
    if origin is tuple:
        return _tuple(_reader(arguments[0]))
    if origin is dict:
        return _dict(_reader(arguments[1]))
    if is_dataclass(kind):
        return _record(kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _enum(kind)
    return _scalar(kind)


def _optional(inner: Reader) -> Reader:
    return lambda raw, where: None if raw is None else inner(raw, where)


def _tuple(item: Reader) -> Reader:
    def read(raw: Any, where: str) -> Any:
        _expect(isinstance(raw, list), "a list", raw, where)
        return tuple(item(found, f"{where}[{index}]") for index, found in enumerate(raw))

    return read


def _fixed_tuple(items: list[Reader]) -> Reader:
    def read(raw: Any, where: str) -> Any:
        _expect(isinstance(raw, list) and len(raw) == len(items), f"a list of {len(items)}", raw, where)
        return tuple(item(found, f"{where}[{n}]") for n, (item, found) in enumerate(zip(items, raw, strict=True)))

    return read


def _dict(item: Reader) -> Reader:
    def read(raw: Any, where: str) -> Any:
        _expect(isinstance(raw, dict), "an object", raw, where)
        return {key: item(found, f"{where}.{key}") for key, found in raw.items()}

    return read


def _enum(kind: type[StrEnum]) -> Reader:
    known = {str(member): member for member in kind}

    def read(raw: Any, where: str) -> Any:
        _expect(isinstance(raw, str) and raw in known, "one of " + ", ".join(known), raw, where)
        return known[raw]

    return read


def _scalar(kind: Any) -> Reader:
    def read(raw: Any, where: str) -> Any:
        if kind is Any:
            return raw
        if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
            return float(raw)
        _expect(isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool)), kind.__name__, raw, where)
        return raw

    return read


def _record(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    known = [(field.name, _reader(hints[field.name]), _has_default(field)) for field in fields(kind)]

    def read(raw: Any, where: str) -> Any:
        _expect(isinstance(raw, dict), f"an object ({kind.__name__})", raw, where)
        values = {}
        for name, reader, has_default in known:
            if name in raw:
                values[name] = reader(raw[name], f"{where}: {name}")
            elif not has_default:
                raise ProtocolError(f"{where}: expected a field {name}, found {', '.join(sorted(raw)) or 'none'}")
        return kind(**values)

    return read


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _expect(holds: bool, expected: str, found: Any, where: str) -> None:
    if not holds:
        raise ProtocolError(f"{where}: expected {expected}, found {found!r:.80}")
