from federation.v1 import checkpoint_pb2 as _checkpoint_pb2
from federation.v1 import leaves_pb2 as _leaves_pb2
from federation.v1 import telemetry_pb2 as _telemetry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CommandKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMAND_KIND_UNSPECIFIED: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_CREATE: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_APPROVE: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_START: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_PAUSE: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_RESUME: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_ROLLBACK: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_ABORT: _ClassVar[CommandKind]
    COMMAND_KIND_RUN_EVALUATE: _ClassVar[CommandKind]
    COMMAND_KIND_ROUND_ABANDON: _ClassVar[CommandKind]
    COMMAND_KIND_SITE_DRAIN: _ClassVar[CommandKind]
    COMMAND_KIND_SITE_RESUME: _ClassVar[CommandKind]
    COMMAND_KIND_SITE_INVITE: _ClassVar[CommandKind]
    COMMAND_KIND_SITE_REVOKE: _ClassVar[CommandKind]
    COMMAND_KIND_OPERATOR_INVITE: _ClassVar[CommandKind]

class QueryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUERY_KIND_UNSPECIFIED: _ClassVar[QueryKind]
    QUERY_KIND_RUNS: _ClassVar[QueryKind]
    QUERY_KIND_RUN: _ClassVar[QueryKind]
    QUERY_KIND_MODEL: _ClassVar[QueryKind]
    QUERY_KIND_SITES: _ClassVar[QueryKind]
    QUERY_KIND_STATUS: _ClassVar[QueryKind]
    QUERY_KIND_METRICS: _ClassVar[QueryKind]
COMMAND_KIND_UNSPECIFIED: CommandKind
COMMAND_KIND_RUN_CREATE: CommandKind
COMMAND_KIND_RUN_APPROVE: CommandKind
COMMAND_KIND_RUN_START: CommandKind
COMMAND_KIND_RUN_PAUSE: CommandKind
COMMAND_KIND_RUN_RESUME: CommandKind
COMMAND_KIND_RUN_ROLLBACK: CommandKind
COMMAND_KIND_RUN_ABORT: CommandKind
COMMAND_KIND_RUN_EVALUATE: CommandKind
COMMAND_KIND_ROUND_ABANDON: CommandKind
COMMAND_KIND_SITE_DRAIN: CommandKind
COMMAND_KIND_SITE_RESUME: CommandKind
COMMAND_KIND_SITE_INVITE: CommandKind
COMMAND_KIND_SITE_REVOKE: CommandKind
COMMAND_KIND_OPERATOR_INVITE: CommandKind
QUERY_KIND_UNSPECIFIED: QueryKind
QUERY_KIND_RUNS: QueryKind
QUERY_KIND_RUN: QueryKind
QUERY_KIND_MODEL: QueryKind
QUERY_KIND_SITES: QueryKind
QUERY_KIND_STATUS: QueryKind
QUERY_KIND_METRICS: QueryKind

class Message(_message.Message):
    __slots__ = ("header", "acknowledgement", "ledger_tail", "manifest_answer", "site_status", "update_offer", "round_declined", "cosignature", "evaluation_offer", "telemetry", "command", "command_reply", "query", "query_reply")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_TAIL_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_ANSWER_FIELD_NUMBER: _ClassVar[int]
    SITE_STATUS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_OFFER_FIELD_NUMBER: _ClassVar[int]
    ROUND_DECLINED_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_OFFER_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    COMMAND_REPLY_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    QUERY_REPLY_FIELD_NUMBER: _ClassVar[int]
    header: Header
    acknowledgement: Acknowledgement
    ledger_tail: _checkpoint_pb2.LedgerTail
    manifest_answer: ManifestAnswer
    site_status: _telemetry_pb2.SiteStatus
    update_offer: UpdateOffer
    round_declined: RoundDeclined
    cosignature: _checkpoint_pb2.Cosignature
    evaluation_offer: EvaluationOffer
    telemetry: _telemetry_pb2.Telemetry
    command: Command
    command_reply: CommandReply
    query: Query
    query_reply: QueryReply
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ..., ledger_tail: _Optional[_Union[_checkpoint_pb2.LedgerTail, _Mapping]] = ..., manifest_answer: _Optional[_Union[ManifestAnswer, _Mapping]] = ..., site_status: _Optional[_Union[_telemetry_pb2.SiteStatus, _Mapping]] = ..., update_offer: _Optional[_Union[UpdateOffer, _Mapping]] = ..., round_declined: _Optional[_Union[RoundDeclined, _Mapping]] = ..., cosignature: _Optional[_Union[_checkpoint_pb2.Cosignature, _Mapping]] = ..., evaluation_offer: _Optional[_Union[EvaluationOffer, _Mapping]] = ..., telemetry: _Optional[_Union[_telemetry_pb2.Telemetry, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., command_reply: _Optional[_Union[CommandReply, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., query_reply: _Optional[_Union[QueryReply, _Mapping]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("consortium", "sender", "recipient", "sequence", "received_through", "epoch", "previous_epoch_last", "roster_version", "checkpoint_size", "checkpoint_root", "expires_at_us", "blobs", "protocol_version", "algorithm", "encryption")
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_EPOCH_LAST_FIELD_NUMBER: _ClassVar[int]
    ROSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SIZE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_ROOT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_US_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_FIELD_NUMBER: _ClassVar[int]
    consortium: str
    sender: str
    recipient: str
    sequence: int
    received_through: int
    epoch: int
    previous_epoch_last: int
    roster_version: int
    checkpoint_size: int
    checkpoint_root: bytes
    expires_at_us: int
    blobs: _containers.RepeatedScalarFieldContainer[bytes]
    protocol_version: int
    algorithm: str
    encryption: str
    def __init__(self, consortium: _Optional[str] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., sequence: _Optional[int] = ..., received_through: _Optional[int] = ..., epoch: _Optional[int] = ..., previous_epoch_last: _Optional[int] = ..., roster_version: _Optional[int] = ..., checkpoint_size: _Optional[int] = ..., checkpoint_root: _Optional[bytes] = ..., expires_at_us: _Optional[int] = ..., blobs: _Optional[_Iterable[bytes]] = ..., protocol_version: _Optional[int] = ..., algorithm: _Optional[str] = ..., encryption: _Optional[str] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ManifestAnswer(_message.Message):
    __slots__ = ("run", "manifest_digest", "accepted", "reason", "sentence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    manifest_digest: bytes
    accepted: bool
    reason: _leaves_pb2.Reason
    sentence: str
    def __init__(self, run: _Optional[str] = ..., manifest_digest: _Optional[bytes] = ..., accepted: _Optional[bool] = ..., reason: _Optional[_Union[_leaves_pb2.Reason, str]] = ..., sentence: _Optional[str] = ...) -> None: ...

class UpdateOffer(_message.Message):
    __slots__ = ("signed_update",)
    SIGNED_UPDATE_FIELD_NUMBER: _ClassVar[int]
    signed_update: bytes
    def __init__(self, signed_update: _Optional[bytes] = ...) -> None: ...

class RoundDeclined(_message.Message):
    __slots__ = ("run", "round", "reason", "sentence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    reason: _leaves_pb2.Reason
    sentence: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., reason: _Optional[_Union[_leaves_pb2.Reason, str]] = ..., sentence: _Optional[str] = ...) -> None: ...

class EvaluationOffer(_message.Message):
    __slots__ = ("signed_evaluation",)
    SIGNED_EVALUATION_FIELD_NUMBER: _ClassVar[int]
    signed_evaluation: bytes
    def __init__(self, signed_evaluation: _Optional[bytes] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "kind", "subject", "number", "manifest_digest", "blobs", "token_digest", "public", "expires_at_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: CommandKind
    subject: str
    number: int
    manifest_digest: bytes
    blobs: _containers.RepeatedScalarFieldContainer[bytes]
    token_digest: bytes
    public: bytes
    expires_at_us: int
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[CommandKind, str]] = ..., subject: _Optional[str] = ..., number: _Optional[int] = ..., manifest_digest: _Optional[bytes] = ..., blobs: _Optional[_Iterable[bytes]] = ..., token_digest: _Optional[bytes] = ..., public: _Optional[bytes] = ..., expires_at_us: _Optional[int] = ...) -> None: ...

class CommandReply(_message.Message):
    __slots__ = ("id", "ok", "sentence", "leaf_index", "document")
    ID_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    ok: bool
    sentence: str
    leaf_index: int
    document: str
    def __init__(self, id: _Optional[str] = ..., ok: _Optional[bool] = ..., sentence: _Optional[str] = ..., leaf_index: _Optional[int] = ..., document: _Optional[str] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("id", "kind", "subject", "number")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: QueryKind
    subject: str
    number: int
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[QueryKind, str]] = ..., subject: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class QueryReply(_message.Message):
    __slots__ = ("id", "ok", "sentence", "document")
    ID_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    ok: bool
    sentence: str
    document: str
    def __init__(self, id: _Optional[str] = ..., ok: _Optional[bool] = ..., sentence: _Optional[str] = ..., document: _Optional[str] = ...) -> None: ...
