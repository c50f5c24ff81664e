from federation.v1 import leaves_pb2 as _leaves_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Manifest(_message.Message):
    __slots__ = ("run", "consortium", "plan", "alpha", "outer", "codecs", "inner", "model", "trainer", "theta_blob", "fragments", "aliases", "max_update_norm", "snapshot_every_rounds", "numerics_version")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    OUTER_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    THETA_BLOB_FIELD_NUMBER: _ClassVar[int]
    FRAGMENTS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    MAX_UPDATE_NORM_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_EVERY_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_VERSION_FIELD_NUMBER: _ClassVar[int]
    run: str
    consortium: str
    plan: _leaves_pb2.Plan
    alpha: float
    outer: OuterSettings
    codecs: CodecSettings
    inner: InnerSettings
    model: ModelSettings
    trainer: TrainerSettings
    theta_blob: bytes
    fragments: _containers.RepeatedCompositeFieldContainer[FragmentTable]
    aliases: _containers.RepeatedCompositeFieldContainer[Alias]
    max_update_norm: float
    snapshot_every_rounds: int
    numerics_version: int
    def __init__(self, run: _Optional[str] = ..., consortium: _Optional[str] = ..., plan: _Optional[_Union[_leaves_pb2.Plan, _Mapping]] = ..., alpha: _Optional[float] = ..., outer: _Optional[_Union[OuterSettings, _Mapping]] = ..., codecs: _Optional[_Union[CodecSettings, _Mapping]] = ..., inner: _Optional[_Union[InnerSettings, _Mapping]] = ..., model: _Optional[_Union[ModelSettings, _Mapping]] = ..., trainer: _Optional[_Union[TrainerSettings, _Mapping]] = ..., theta_blob: _Optional[bytes] = ..., fragments: _Optional[_Iterable[_Union[FragmentTable, _Mapping]]] = ..., aliases: _Optional[_Iterable[_Union[Alias, _Mapping]]] = ..., max_update_norm: _Optional[float] = ..., snapshot_every_rounds: _Optional[int] = ..., numerics_version: _Optional[int] = ...) -> None: ...

class OuterSettings(_message.Message):
    __slots__ = ("lr", "momentum")
    LR_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    lr: float
    momentum: float
    def __init__(self, lr: _Optional[float] = ..., momentum: _Optional[float] = ...) -> None: ...

class CodecSettings(_message.Message):
    __slots__ = ("up", "down", "error_feedback", "error_feedback_beta")
    UP_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_BETA_FIELD_NUMBER: _ClassVar[int]
    up: str
    down: str
    error_feedback: bool
    error_feedback_beta: float
    def __init__(self, up: _Optional[str] = ..., down: _Optional[str] = ..., error_feedback: _Optional[bool] = ..., error_feedback_beta: _Optional[float] = ...) -> None: ...

class InnerSettings(_message.Message):
    __slots__ = ("lr", "weight_decay", "beta1", "beta2", "eps", "grad_clip", "warmup_steps", "total_steps", "min_lr_fraction", "joiner_warmup_steps", "max_loss")
    LR_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    GRAD_CLIP_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    MIN_LR_FRACTION_FIELD_NUMBER: _ClassVar[int]
    JOINER_WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_LOSS_FIELD_NUMBER: _ClassVar[int]
    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    grad_clip: float
    warmup_steps: int
    total_steps: int
    min_lr_fraction: float
    joiner_warmup_steps: int
    max_loss: float
    def __init__(self, lr: _Optional[float] = ..., weight_decay: _Optional[float] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., eps: _Optional[float] = ..., grad_clip: _Optional[float] = ..., warmup_steps: _Optional[int] = ..., total_steps: _Optional[int] = ..., min_lr_fraction: _Optional[float] = ..., joiner_warmup_steps: _Optional[int] = ..., max_loss: _Optional[float] = ...) -> None: ...

class ModelSettings(_message.Message):
    __slots__ = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "max_positions", "vocab_size", "tie_embeddings")
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATE_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NUM_HEADS_FIELD_NUMBER: _ClassVar[int]
    NUM_KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    TIE_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    max_positions: int
    vocab_size: int
    tie_embeddings: bool
    def __init__(self, hidden_size: _Optional[int] = ..., intermediate_size: _Optional[int] = ..., num_layers: _Optional[int] = ..., num_heads: _Optional[int] = ..., num_kv_heads: _Optional[int] = ..., max_positions: _Optional[int] = ..., vocab_size: _Optional[int] = ..., tie_embeddings: _Optional[bool] = ...) -> None: ...

class TrainerSettings(_message.Message):
    __slots__ = ("name", "batch_size", "sequence_length", "seed", "evaluation_bytes", "data_sets")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_SETS_FIELD_NUMBER: _ClassVar[int]
    name: str
    batch_size: int
    sequence_length: int
    seed: int
    evaluation_bytes: int
    data_sets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., batch_size: _Optional[int] = ..., sequence_length: _Optional[int] = ..., seed: _Optional[int] = ..., evaluation_bytes: _Optional[int] = ..., data_sets: _Optional[_Iterable[str]] = ...) -> None: ...

class TableEntry(_message.Message):
    __slots__ = ("name", "shape", "offset")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ...) -> None: ...

class FragmentTable(_message.Message):
    __slots__ = ("num_elements", "entries")
    NUM_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    num_elements: int
    entries: _containers.RepeatedCompositeFieldContainer[TableEntry]
    def __init__(self, num_elements: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[TableEntry, _Mapping]]] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ("name", "of")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    name: str
    of: str
    def __init__(self, name: _Optional[str] = ..., of: _Optional[str] = ...) -> None: ...
