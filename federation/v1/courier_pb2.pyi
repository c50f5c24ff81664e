from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NegotiateRequest(_message.Message):
    __slots__ = ("protocol_versions", "software")
    PROTOCOL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    protocol_versions: _containers.RepeatedScalarFieldContainer[int]
    software: str
    def __init__(self, protocol_versions: _Optional[_Iterable[int]] = ..., software: _Optional[str] = ...) -> None: ...

class NegotiateReply(_message.Message):
    __slots__ = ("protocol_version", "software", "consortium", "now_us", "roster_version", "ledger_size")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    ROSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SIZE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    software: str
    consortium: str
    now_us: int
    roster_version: int
    ledger_size: int
    def __init__(self, protocol_version: _Optional[int] = ..., software: _Optional[str] = ..., consortium: _Optional[str] = ..., now_us: _Optional[int] = ..., roster_version: _Optional[int] = ..., ledger_size: _Optional[int] = ...) -> None: ...

class NumberRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class CarriedMessage(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class OfferedBlob(_message.Message):
    __slots__ = ("digest", "num_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    num_bytes: int
    def __init__(self, digest: _Optional[bytes] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("have", "received_through", "acknowledgement_digest", "wait_ms", "max_bytes")
    HAVE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    have: _containers.RepeatedCompositeFieldContainer[NumberRange]
    received_through: int
    acknowledgement_digest: bytes
    wait_ms: int
    max_bytes: int
    def __init__(self, have: _Optional[_Iterable[_Union[NumberRange, _Mapping]]] = ..., received_through: _Optional[int] = ..., acknowledgement_digest: _Optional[bytes] = ..., wait_ms: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("messages", "first_offered", "next_sequence", "acknowledgement", "blobs")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFERED_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[CarriedMessage]
    first_offered: int
    next_sequence: int
    acknowledgement: bytes
    blobs: _containers.RepeatedCompositeFieldContainer[OfferedBlob]
    def __init__(self, messages: _Optional[_Iterable[_Union[CarriedMessage, _Mapping]]] = ..., first_offered: _Optional[int] = ..., next_sequence: _Optional[int] = ..., acknowledgement: _Optional[bytes] = ..., blobs: _Optional[_Iterable[_Union[OfferedBlob, _Mapping]]] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("messages", "first_offered", "next_sequence", "acknowledgement", "blobs")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFERED_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[CarriedMessage]
    first_offered: int
    next_sequence: int
    acknowledgement: bytes
    blobs: _containers.RepeatedCompositeFieldContainer[OfferedBlob]
    def __init__(self, messages: _Optional[_Iterable[_Union[CarriedMessage, _Mapping]]] = ..., first_offered: _Optional[int] = ..., next_sequence: _Optional[int] = ..., acknowledgement: _Optional[bytes] = ..., blobs: _Optional[_Iterable[_Union[OfferedBlob, _Mapping]]] = ...) -> None: ...

class PushReply(_message.Message):
    __slots__ = ("have", "received_through", "blobs_missing")
    HAVE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    BLOBS_MISSING_FIELD_NUMBER: _ClassVar[int]
    have: _containers.RepeatedCompositeFieldContainer[NumberRange]
    received_through: int
    blobs_missing: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, have: _Optional[_Iterable[_Union[NumberRange, _Mapping]]] = ..., received_through: _Optional[int] = ..., blobs_missing: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StatBlobRequest(_message.Message):
    __slots__ = ("digest", "num_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    num_bytes: int
    def __init__(self, digest: _Optional[bytes] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class StatBlobReply(_message.Message):
    __slots__ = ("complete", "pieces_missing")
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    PIECES_MISSING_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    pieces_missing: _containers.RepeatedCompositeFieldContainer[NumberRange]
    def __init__(self, complete: _Optional[bool] = ..., pieces_missing: _Optional[_Iterable[_Union[NumberRange, _Mapping]]] = ...) -> None: ...

class PutBlobRequest(_message.Message):
    __slots__ = ("digest", "num_bytes", "piece", "data")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    num_bytes: int
    piece: int
    data: bytes
    def __init__(self, digest: _Optional[bytes] = ..., num_bytes: _Optional[int] = ..., piece: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class GetBlobRequest(_message.Message):
    __slots__ = ("digest", "first_piece", "num_pieces", "pieces_per_message")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIRST_PIECE_FIELD_NUMBER: _ClassVar[int]
    NUM_PIECES_FIELD_NUMBER: _ClassVar[int]
    PIECES_PER_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    first_piece: int
    num_pieces: int
    pieces_per_message: int
    def __init__(self, digest: _Optional[bytes] = ..., first_piece: _Optional[int] = ..., num_pieces: _Optional[int] = ..., pieces_per_message: _Optional[int] = ...) -> None: ...

class BlobPiece(_message.Message):
    __slots__ = ("piece", "data")
    PIECE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    piece: int
    data: bytes
    def __init__(self, piece: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class EnrollRequest(_message.Message):
    __slots__ = ("token", "request")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    request: bytes
    def __init__(self, token: _Optional[bytes] = ..., request: _Optional[bytes] = ...) -> None: ...

class EnrollReply(_message.Message):
    __slots__ = ("consortium", "certificate", "renewal_certificate", "rosters", "member", "endpoint")
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    ROSTERS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    consortium: str
    certificate: bytes
    renewal_certificate: bytes
    rosters: _containers.RepeatedScalarFieldContainer[bytes]
    member: bool
    endpoint: str
    def __init__(self, consortium: _Optional[str] = ..., certificate: _Optional[bytes] = ..., renewal_certificate: _Optional[bytes] = ..., rosters: _Optional[_Iterable[bytes]] = ..., member: _Optional[bool] = ..., endpoint: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: str
    def __init__(self, document: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("run", "interval_ms")
    RUN_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    run: str
    interval_ms: int
    def __init__(self, run: _Optional[str] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: str
    def __init__(self, document: _Optional[str] = ...) -> None: ...
