from federation.v1 import leaves_pb2 as _leaves_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Update(_message.Message):
    __slots__ = ("consortium", "run", "manifest_digest", "round", "fragment", "base_digest", "site", "allocation", "codec", "weight_tokens", "new_tokens", "num_steps", "payload_digest", "payload_bytes")
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    consortium: str
    run: str
    manifest_digest: bytes
    round: int
    fragment: int
    base_digest: bytes
    site: str
    allocation: str
    codec: str
    weight_tokens: int
    new_tokens: int
    num_steps: int
    payload_digest: bytes
    payload_bytes: int
    def __init__(self, consortium: _Optional[str] = ..., run: _Optional[str] = ..., manifest_digest: _Optional[bytes] = ..., round: _Optional[int] = ..., fragment: _Optional[int] = ..., base_digest: _Optional[bytes] = ..., site: _Optional[str] = ..., allocation: _Optional[str] = ..., codec: _Optional[str] = ..., weight_tokens: _Optional[int] = ..., new_tokens: _Optional[int] = ..., num_steps: _Optional[int] = ..., payload_digest: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("run", "site", "request", "num_commits", "versions", "scores")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NUM_COMMITS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    run: str
    site: str
    request: int
    num_commits: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedCompositeFieldContainer[_leaves_pb2.LanguageScore]
    def __init__(self, run: _Optional[str] = ..., site: _Optional[str] = ..., request: _Optional[int] = ..., num_commits: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[_Union[_leaves_pb2.LanguageScore, _Mapping]]] = ...) -> None: ...

class TaskEvaluation(_message.Message):
    __slots__ = ("run", "site", "request", "num_commits", "versions", "scores")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NUM_COMMITS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    run: str
    site: str
    request: int
    num_commits: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedCompositeFieldContainer[_leaves_pb2.TaskScore]
    def __init__(self, run: _Optional[str] = ..., site: _Optional[str] = ..., request: _Optional[int] = ..., num_commits: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[_Union[_leaves_pb2.TaskScore, _Mapping]]] = ...) -> None: ...
