from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LedgerTail(_message.Message):
    __slots__ = ("first_index", "leaves", "checkpoint", "cosigned", "roster", "snapshots", "suggested_starts")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    SUGGESTED_STARTS_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    leaves: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    cosigned: _containers.RepeatedScalarFieldContainer[bytes]
    roster: bytes
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    suggested_starts: _containers.RepeatedCompositeFieldContainer[SuggestedStart]
    def __init__(self, first_index: _Optional[int] = ..., leaves: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ..., cosigned: _Optional[_Iterable[bytes]] = ..., roster: _Optional[bytes] = ..., snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., suggested_starts: _Optional[_Iterable[_Union[SuggestedStart, _Mapping]]] = ...) -> None: ...

class SuggestedStart(_message.Message):
    __slots__ = ("run", "seconds")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    run: str
    seconds: int
    def __init__(self, run: _Optional[str] = ..., seconds: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("run", "fragment", "version", "blob_digest")
    RUN_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOB_DIGEST_FIELD_NUMBER: _ClassVar[int]
    run: str
    fragment: int
    version: int
    blob_digest: bytes
    def __init__(self, run: _Optional[str] = ..., fragment: _Optional[int] = ..., version: _Optional[int] = ..., blob_digest: _Optional[bytes] = ...) -> None: ...

class Cosignature(_message.Message):
    __slots__ = ("size", "root", "note")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    size: int
    root: bytes
    note: bytes
    def __init__(self, size: _Optional[int] = ..., root: _Optional[bytes] = ..., note: _Optional[bytes] = ...) -> None: ...
