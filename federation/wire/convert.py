# SPDX-License-Identifier: Apache-2.0
"""Generic conversion between frozen dataclasses and protobuf messages, driven by field names and types alone.

The two vocabularies must match exactly: each dataclass field has the proto field of its name and the reverse, a union
of dataclasses is a oneof whose members are the class names in snake case, and `Reason.WRONG_ROUND = "wrong-round"` is
`REASON_WRONG_ROUND`. A difference is our own bug and raises TypeError when the class is first used.

Rules for values, the same in both directions, so that nobody writes what its peer refuses:

- a `str` whose proto field is `bytes` is a digest: 64 hexadecimal characters here, 32 bytes there, or empty;
- fields named in `SLUG_FIELDS` hold ids (they may become part of a path);
- fields named `sentence` hold at most `max_text_chars`; a repeated field holds at most `MAX_ITEMS`.
"""

import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message as Proto

from federation.errors import LimitExceededError, ProtocolError
from federation.ids import is_digest, is_slug
from federation.limits import DEFAULT_LIMITS

T = TypeVar("T")

MAX_ITEMS: Final = 65_536
"""Elements of one repeated field: a few bytes must not become millions of objects."""

SLUG_FIELDS: Final = frozenset({"run", "site", "sites", "consortium", "operator", "sender", "recipient", "allocation"})
"""Names of fields that hold ids."""

_MAY_BE_EMPTY: Final = frozenset({"operator"})  # "" where the decider acted by itself
_DIGEST_BYTES: Final = 32
_SCALARS: Final[Mapping[type, frozenset[int]]] = {
    int: frozenset({FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}),
    float: frozenset({FieldDescriptor.TYPE_DOUBLE}),
    bool: frozenset({FieldDescriptor.TYPE_BOOL}),
    str: frozenset({FieldDescriptor.TYPE_STRING}),
    bytes: frozenset({FieldDescriptor.TYPE_BYTES}),
}

Change = Callable[[Any], Any]


def to_proto(value: object, proto: Proto) -> None:
    """Fills an empty protobuf message from a dataclass instance.

    Raises:
        ProtocolError, LimitExceededError: a value breaks a rule of this module or does not fit its proto field.
        TypeError: our own bug: the dataclass and the message differ.
    """
    kind: Any = type(value)
    for field in _fields_of(kind, proto.DESCRIPTOR):
        try:
            field.write(proto, getattr(value, field.name))
        except (ValueError, TypeError, AttributeError) as error:
            name = f"{type(value).__name__}.{field.name}"
            raise ProtocolError(f"{name}: expected a value that can be written, found: {error}") from error


def from_proto(cls: type[T], proto: Proto) -> T:
    """Makes the dataclass instance that a protobuf message describes.

    Raises:
        ProtocolError, LimitExceededError: a value is missing or breaks a rule of this module.
        TypeError: our own bug: the dataclass and the message differ.
    """
    kind: Any = cls
    values = {field.name: field.read(proto) for field in _fields_of(kind, proto.DESCRIPTOR)}
    return cls(**values)


@dataclass(frozen=True, kw_only=True)
class _Field(ABC):
    """One dataclass field and its proto counterpart."""

    name: str
    owner: str

    @abstractmethod
    def write(self, proto: Any, value: Any) -> None:
        """Sets the proto field."""

    @abstractmethod
    def read(self, proto: Any) -> Any:
        """The domain value of the proto field."""

    def check_count(self, count: int) -> None:
        """Raises LimitExceededError above `MAX_ITEMS`."""
        if count > MAX_ITEMS:
            raise LimitExceededError(f"{self.owner}.{self.name}: expected at most {MAX_ITEMS} items, found {count}")


@dataclass(frozen=True, kw_only=True)
class _Value(_Field):
    """A scalar, a digest or an enum member."""

    encode: Change
    decode: Change

    def write(self, proto: Any, value: Any) -> None:
        setattr(proto, self.name, self.encode(value))

    def read(self, proto: Any) -> Any:
        return self.decode(getattr(proto, self.name))


@dataclass(frozen=True, kw_only=True)
class _Values(_Field):
    """A tuple of scalars, digests or enum members."""

    encode: Change
    decode: Change

    def write(self, proto: Any, value: Any) -> None:
        self.check_count(len(value))
        getattr(proto, self.name).extend([self.encode(item) for item in value])

    def read(self, proto: Any) -> Any:
        items = getattr(proto, self.name)
        self.check_count(len(items))
        return tuple(self.decode(item) for item in items)


@dataclass(frozen=True, kw_only=True)
class _Nested(_Field):
    """A dataclass, or None where that is allowed."""

    cls: type
    optional: bool

    def write(self, proto: Any, value: Any) -> None:
        if value is None and self.optional:
            return
        inner = getattr(proto, self.name)
        inner.SetInParent()  # present even if all its fields are zero
        to_proto(_expect(value, self.cls), inner)

    def read(self, proto: Any) -> Any:
        if not proto.HasField(self.name):
            if self.optional:
                return None
            raise ProtocolError(f"{self.owner}.{self.name}: expected a {self.cls.__name__}, found nothing")
        return from_proto(self.cls, getattr(proto, self.name))


@dataclass(frozen=True, kw_only=True)
class _NestedTuple(_Field):
    """A tuple of dataclasses."""

    cls: type

    def write(self, proto: Any, value: Any) -> None:
        self.check_count(len(value))
        items = getattr(proto, self.name)
        for item in value:
            to_proto(_expect(item, self.cls), items.add())

    def read(self, proto: Any) -> Any:
        items = getattr(proto, self.name)
        self.check_count(len(items))
        return tuple(from_proto(self.cls, item) for item in items)


@dataclass(frozen=True, kw_only=True)
class _OneOf(_Field):
    """A union of dataclasses; `members` maps proto field names to them."""

    members: Mapping[str, type]

    def write(self, proto: Any, value: Any) -> None:
        member = snake_case(type(value).__name__)
        inner = getattr(proto, member)
        inner.SetInParent()
        to_proto(_expect(value, self.members[member]), inner)

    def read(self, proto: Any) -> Any:
        member = proto.WhichOneof(self.name)
        if member is None:
            raise ProtocolError(f"{self.owner}.{self.name}: expected a type that this release knows, found none")
        return from_proto(self.members[member], getattr(proto, member))


def snake_case(name: str) -> str:
    """`RoundOpenedV1` -> `round_opened_v1`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _expect(value: Any, cls: type) -> Any:
    if type(value) is not cls:
        raise TypeError(f"expected a {cls.__name__}, found a {type(value).__name__}")
    return value


@cache
def _fields_of(cls: type, descriptor: Descriptor) -> tuple[_Field, ...]:
    """How each field converts; checks that class and message say the same."""
    if not is_dataclass(cls):
        raise TypeError(f"expected a dataclass, found {cls.__name__}")
    in_oneof = {member.name for oneof in descriptor.oneofs for member in oneof.fields}
    found = (set(descriptor.fields_by_name) - in_oneof) | set(descriptor.oneofs_by_name)
    expected = {field.name for field in fields(cls)}
    if found != expected or descriptor.name != cls.__name__:
        raise TypeError(f"{cls.__name__} and proto {descriptor.name} differ in {sorted(found ^ expected)}")
    hints = typing.get_type_hints(cls)
    return tuple(_field(cls.__name__, name, hints[name], descriptor) for name in (field.name for field in fields(cls)))


def _field(owner: str, name: str, hint: Any, descriptor: Descriptor) -> _Field:
    union = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    if name in descriptor.oneofs_by_name:
        members = {snake_case(cls.__name__): cls for cls in union}
        found = {member.name for member in descriptor.oneofs_by_name[name].fields}
        if found != members.keys():
            raise TypeError(f"{owner}.{name}: union and oneof differ in {sorted(found ^ members.keys())}")
        return _OneOf(name=name, owner=owner, members=members)
    proto = descriptor.fields_by_name[name]
    repeated = typing.get_origin(hint) is tuple
    if proto.is_repeated != repeated:
        raise TypeError(f"{owner}.{name}: expected repeated = {repeated} in the proto, found {proto.is_repeated}")
    optional = type(None) in union
    item: Any = typing.get_args(hint)[0] if repeated else next((cls for cls in union if cls is not type(None)), hint)
    if is_dataclass(item) and isinstance(item, type):
        if repeated:
            return _NestedTuple(name=name, owner=owner, cls=item)
        return _Nested(name=name, owner=owner, cls=item, optional=optional)
    encode, decode = _changes(f"{owner}.{name}", item, proto)
    return (_Values if repeated else _Value)(name=name, owner=owner, encode=encode, decode=decode)


def _changes(where: str, item: Any, proto: FieldDescriptor) -> tuple[Change, Change]:
    """How one scalar is written and read."""
    if issubclass(item, StrEnum) and proto.enum_type is not None:
        return _enum_changes(where, item, proto.enum_type)
    if item is str and proto.type == FieldDescriptor.TYPE_BYTES:
        return _digest_changes(where, may_be_empty=not proto.is_repeated)
    if proto.type not in _SCALARS.get(item, frozenset()):
        raise TypeError(f"{where}: expected a proto type for {item}, found type {proto.type}")
    if proto.name in SLUG_FIELDS and item is str:
        check = _slug_check(where, may_be_empty=proto.name in _MAY_BE_EMPTY)
    elif proto.name == "sentence":
        check = _sentence_check(where)
    else:
        return _same, _same
    return check, check


def _same(value: Any) -> Any:
    return value


def _slug_check(where: str, *, may_be_empty: bool) -> Change:
    def check(value: str) -> str:
        if not (is_slug(value) or (may_be_empty and value == "")):
            raise ProtocolError(f"{where}: expected an id, found {value!r:.80}")
        return value

    return check


def _sentence_check(where: str) -> Change:
    limit = DEFAULT_LIMITS.max_text_chars

    def check(value: str) -> str:
        if len(value) > limit:
            raise LimitExceededError(f"{where}: expected at most {limit} characters, found {len(value)}")
        return value

    return check


def _digest_changes(where: str, *, may_be_empty: bool) -> tuple[Change, Change]:
    lengths = {0, _DIGEST_BYTES} if may_be_empty else {_DIGEST_BYTES}

    def encode(value: str) -> bytes:
        if not (is_digest(value) or (may_be_empty and value == "")):
            raise ProtocolError(f"{where}: expected 64 lower-case hexadecimal characters, found {value!r:.80}")
        return bytes.fromhex(value)

    def decode(value: bytes) -> str:
        if len(value) not in lengths:
            raise ProtocolError(f"{where}: expected a digest of {_DIGEST_BYTES} bytes, found {len(value)}")
        return value.hex()

    return encode, decode


def _enum_changes(where: str, cls: type[StrEnum], proto: EnumDescriptor) -> tuple[Change, Change]:
    prefix = snake_case(cls.__name__).upper()
    numbers = {f"{prefix}_{member.value.upper().replace('-', '_')}": member for member in cls}
    unspecified = f"{prefix}_UNSPECIFIED"
    found = {value.name: value.number for value in proto.values}
    if found.pop(unspecified, None) != 0 or found.keys() != numbers.keys() or proto.name != cls.__name__:
        raise TypeError(
            f"{where}: {cls.__name__} and proto {proto.name} differ: {sorted(found.keys() ^ numbers.keys())}"
        )
    encode = {member: found[name] for name, member in numbers.items()}
    decode = {number: member for member, number in encode.items()}

    def read(number: int) -> StrEnum:
        if number not in decode:
            raise ProtocolError(f"{where}: expected a code that this release knows, found {number}")
        return decode[number]

    def write(member: Any) -> int:
        return encode[_expect(member, cls)]

    return write, read
