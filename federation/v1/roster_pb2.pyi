from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_OPERATOR: _ClassVar[Role]
    ROLE_AUDITOR: _ClassVar[Role]
    ROLE_VIEWER: _ClassVar[Role]

class RequestKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REQUEST_KIND_UNSPECIFIED: _ClassVar[RequestKind]
    REQUEST_KIND_SITE: _ClassVar[RequestKind]
    REQUEST_KIND_OPERATOR: _ClassVar[RequestKind]
    REQUEST_KIND_COORDINATOR: _ClassVar[RequestKind]

class KeyUse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_USE_UNSPECIFIED: _ClassVar[KeyUse]
    KEY_USE_ENVELOPES: _ClassVar[KeyUse]
    KEY_USE_WITNESS: _ClassVar[KeyUse]
    KEY_USE_TLS: _ClassVar[KeyUse]
    KEY_USE_LEDGER: _ClassVar[KeyUse]
ROLE_UNSPECIFIED: Role
ROLE_OPERATOR: Role
ROLE_AUDITOR: Role
ROLE_VIEWER: Role
REQUEST_KIND_UNSPECIFIED: RequestKind
REQUEST_KIND_SITE: RequestKind
REQUEST_KIND_OPERATOR: RequestKind
REQUEST_KIND_COORDINATOR: RequestKind
KEY_USE_UNSPECIFIED: KeyUse
KEY_USE_ENVELOPES: KeyUse
KEY_USE_WITNESS: KeyUse
KEY_USE_TLS: KeyUse
KEY_USE_LEDGER: KeyUse

class Roster(_message.Message):
    __slots__ = ("consortium", "version", "issued_at_us", "expires_at_us", "threshold", "root_keys", "coordinator", "operators", "sites", "tls_issuer")
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_US_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_US_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    ROOT_KEYS_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    TLS_ISSUER_FIELD_NUMBER: _ClassVar[int]
    consortium: str
    version: int
    issued_at_us: int
    expires_at_us: int
    threshold: int
    root_keys: _containers.RepeatedCompositeFieldContainer[RootKey]
    coordinator: CoordinatorEntry
    operators: _containers.RepeatedCompositeFieldContainer[OperatorEntry]
    sites: _containers.RepeatedCompositeFieldContainer[SiteEntry]
    tls_issuer: bytes
    def __init__(self, consortium: _Optional[str] = ..., version: _Optional[int] = ..., issued_at_us: _Optional[int] = ..., expires_at_us: _Optional[int] = ..., threshold: _Optional[int] = ..., root_keys: _Optional[_Iterable[_Union[RootKey, _Mapping]]] = ..., coordinator: _Optional[_Union[CoordinatorEntry, _Mapping]] = ..., operators: _Optional[_Iterable[_Union[OperatorEntry, _Mapping]]] = ..., sites: _Optional[_Iterable[_Union[SiteEntry, _Mapping]]] = ..., tls_issuer: _Optional[bytes] = ...) -> None: ...

class RootKey(_message.Message):
    __slots__ = ("public",)
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    public: bytes
    def __init__(self, public: _Optional[bytes] = ...) -> None: ...

class CoordinatorEntry(_message.Message):
    __slots__ = ("public", "ledger_origin", "ledger_public", "tls_public")
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    LEDGER_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LEDGER_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    TLS_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    public: bytes
    ledger_origin: str
    ledger_public: bytes
    tls_public: bytes
    def __init__(self, public: _Optional[bytes] = ..., ledger_origin: _Optional[str] = ..., ledger_public: _Optional[bytes] = ..., tls_public: _Optional[bytes] = ...) -> None: ...

class OperatorEntry(_message.Message):
    __slots__ = ("operator", "public", "roles", "tls_public")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TLS_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    operator: str
    public: bytes
    roles: _containers.RepeatedScalarFieldContainer[Role]
    tls_public: bytes
    def __init__(self, operator: _Optional[str] = ..., public: _Optional[bytes] = ..., roles: _Optional[_Iterable[_Union[Role, str]]] = ..., tls_public: _Optional[bytes] = ...) -> None: ...

class SiteEntry(_message.Message):
    __slots__ = ("site", "tls_public", "update_public", "witness_public")
    SITE_FIELD_NUMBER: _ClassVar[int]
    TLS_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    UPDATE_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    WITNESS_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    site: str
    tls_public: bytes
    update_public: bytes
    witness_public: bytes
    def __init__(self, site: _Optional[str] = ..., tls_public: _Optional[bytes] = ..., update_public: _Optional[bytes] = ..., witness_public: _Optional[bytes] = ...) -> None: ...

class RequestedKey(_message.Message):
    __slots__ = ("use", "public")
    USE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    use: KeyUse
    public: bytes
    def __init__(self, use: _Optional[_Union[KeyUse, str]] = ..., public: _Optional[bytes] = ...) -> None: ...

class KeyRequest(_message.Message):
    __slots__ = ("kind", "id", "keys", "roles", "ledger_origin", "tls_issuer")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    LEDGER_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    TLS_ISSUER_FIELD_NUMBER: _ClassVar[int]
    kind: RequestKind
    id: str
    keys: _containers.RepeatedCompositeFieldContainer[RequestedKey]
    roles: _containers.RepeatedScalarFieldContainer[Role]
    ledger_origin: str
    tls_issuer: bytes
    def __init__(self, kind: _Optional[_Union[RequestKind, str]] = ..., id: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[RequestedKey, _Mapping]]] = ..., roles: _Optional[_Iterable[_Union[Role, str]]] = ..., ledger_origin: _Optional[str] = ..., tls_issuer: _Optional[bytes] = ...) -> None: ...
