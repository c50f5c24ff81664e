from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AllocationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALLOCATION_STATE_UNSPECIFIED: _ClassVar[AllocationState]
    ALLOCATION_STATE_INTENDED: _ClassVar[AllocationState]
    ALLOCATION_STATE_SUBMITTED: _ClassVar[AllocationState]
    ALLOCATION_STATE_QUEUED: _ClassVar[AllocationState]
    ALLOCATION_STATE_READY: _ClassVar[AllocationState]
    ALLOCATION_STATE_DRAINING: _ClassVar[AllocationState]
    ALLOCATION_STATE_ENDED: _ClassVar[AllocationState]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_INVITED: _ClassVar[Phase]
    PHASE_TRAINING: _ClassVar[Phase]
    PHASE_UPLOADING: _ClassVar[Phase]

class StartChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    START_CHANGE_UNSPECIFIED: _ClassVar[StartChange]
    START_CHANGE_NONE: _ClassVar[StartChange]
    START_CHANGE_HOURS: _ClassVar[StartChange]
    START_CHANGE_MAINTENANCE: _ClassVar[StartChange]
    START_CHANGE_BUDGET: _ClassVar[StartChange]
ALLOCATION_STATE_UNSPECIFIED: AllocationState
ALLOCATION_STATE_INTENDED: AllocationState
ALLOCATION_STATE_SUBMITTED: AllocationState
ALLOCATION_STATE_QUEUED: AllocationState
ALLOCATION_STATE_READY: AllocationState
ALLOCATION_STATE_DRAINING: AllocationState
ALLOCATION_STATE_ENDED: AllocationState
PHASE_UNSPECIFIED: Phase
PHASE_INVITED: Phase
PHASE_TRAINING: Phase
PHASE_UPLOADING: Phase
START_CHANGE_UNSPECIFIED: StartChange
START_CHANGE_NONE: StartChange
START_CHANGE_HOURS: StartChange
START_CHANGE_MAINTENANCE: StartChange
START_CHANGE_BUDGET: StartChange

class AllocationReport(_message.Message):
    __slots__ = ("run", "allocation", "state", "seconds_left", "seconds_per_step", "start_in_seconds")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    START_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    run: str
    allocation: str
    state: AllocationState
    seconds_left: int
    seconds_per_step: float
    start_in_seconds: int
    def __init__(self, run: _Optional[str] = ..., allocation: _Optional[str] = ..., state: _Optional[_Union[AllocationState, str]] = ..., seconds_left: _Optional[int] = ..., seconds_per_step: _Optional[float] = ..., start_in_seconds: _Optional[int] = ...) -> None: ...

class ParticipationReport(_message.Message):
    __slots__ = ("run", "round", "phase", "step", "loss")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    phase: Phase
    step: int
    loss: float
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., step: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class SnapshotWanted(_message.Message):
    __slots__ = ("run", "fragment", "version")
    RUN_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    run: str
    fragment: int
    version: int
    def __init__(self, run: _Optional[str] = ..., fragment: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class RunBudget(_message.Message):
    __slots__ = ("run", "gpu_hours_effective", "gpu_hours_discarded", "gpu_hours_open", "gpu_hours_idle", "gpu_hours_counted", "gpu_hours_limit", "native_unit", "native_spent", "native_limit", "forecast_gpu_hours")
    RUN_FIELD_NUMBER: _ClassVar[int]
    GPU_HOURS_EFFECTIVE_FIELD_NUMBER: _ClassVar[int]
    GPU_HOURS_DISCARDED_FIELD_NUMBER: _ClassVar[int]
    GPU_HOURS_OPEN_FIELD_NUMBER: _ClassVar[int]
    GPU_HOURS_IDLE_FIELD_NUMBER: _ClassVar[int]
    GPU_HOURS_COUNTED_FIELD_NUMBER: _ClassVar[int]
    GPU_HOURS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    NATIVE_UNIT_FIELD_NUMBER: _ClassVar[int]
    NATIVE_SPENT_FIELD_NUMBER: _ClassVar[int]
    NATIVE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    FORECAST_GPU_HOURS_FIELD_NUMBER: _ClassVar[int]
    run: str
    gpu_hours_effective: float
    gpu_hours_discarded: float
    gpu_hours_open: float
    gpu_hours_idle: float
    gpu_hours_counted: float
    gpu_hours_limit: float
    native_unit: str
    native_spent: float
    native_limit: float
    forecast_gpu_hours: float
    def __init__(self, run: _Optional[str] = ..., gpu_hours_effective: _Optional[float] = ..., gpu_hours_discarded: _Optional[float] = ..., gpu_hours_open: _Optional[float] = ..., gpu_hours_idle: _Optional[float] = ..., gpu_hours_counted: _Optional[float] = ..., gpu_hours_limit: _Optional[float] = ..., native_unit: _Optional[str] = ..., native_spent: _Optional[float] = ..., native_limit: _Optional[float] = ..., forecast_gpu_hours: _Optional[float] = ...) -> None: ...

class LanguageTokens(_message.Message):
    __slots__ = ("run", "language", "tokens")
    RUN_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    run: str
    language: str
    tokens: int
    def __init__(self, run: _Optional[str] = ..., language: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class SiteFacts(_message.Message):
    __slots__ = ("profile", "launcher", "courier", "python", "torch", "accelerator", "num_accelerators", "architecture", "certificate_not_after_us", "queue_wait_seconds", "waiting_seconds", "may_start", "next_change", "next_change_seconds", "budgets", "language_tokens")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    COURIER_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    TORCH_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_NOT_AFTER_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WAITING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAY_START_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    launcher: str
    courier: str
    python: str
    torch: str
    accelerator: str
    num_accelerators: int
    architecture: str
    certificate_not_after_us: int
    queue_wait_seconds: int
    waiting_seconds: int
    may_start: bool
    next_change: StartChange
    next_change_seconds: int
    budgets: _containers.RepeatedCompositeFieldContainer[RunBudget]
    language_tokens: _containers.RepeatedCompositeFieldContainer[LanguageTokens]
    def __init__(self, profile: _Optional[str] = ..., launcher: _Optional[str] = ..., courier: _Optional[str] = ..., python: _Optional[str] = ..., torch: _Optional[str] = ..., accelerator: _Optional[str] = ..., num_accelerators: _Optional[int] = ..., architecture: _Optional[str] = ..., certificate_not_after_us: _Optional[int] = ..., queue_wait_seconds: _Optional[int] = ..., waiting_seconds: _Optional[int] = ..., may_start: _Optional[bool] = ..., next_change: _Optional[_Union[StartChange, str]] = ..., next_change_seconds: _Optional[int] = ..., budgets: _Optional[_Iterable[_Union[RunBudget, _Mapping]]] = ..., language_tokens: _Optional[_Iterable[_Union[LanguageTokens, _Mapping]]] = ...) -> None: ...

class SiteStatus(_message.Message):
    __slots__ = ("ledger_size", "allocations", "participations", "blobs_wanted", "applied", "waits_for_witnesses", "software", "sent_at_us", "snapshots_wanted", "measured_round_trip_seconds", "declared_round_trip_seconds", "facts")
    LEDGER_SIZE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    PARTICIPATIONS_FIELD_NUMBER: _ClassVar[int]
    BLOBS_WANTED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_WITNESSES_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_US_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_WANTED_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ROUND_TRIP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DECLARED_ROUND_TRIP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    ledger_size: int
    allocations: _containers.RepeatedCompositeFieldContainer[AllocationReport]
    participations: _containers.RepeatedCompositeFieldContainer[ParticipationReport]
    blobs_wanted: _containers.RepeatedScalarFieldContainer[bytes]
    applied: _containers.RepeatedScalarFieldContainer[str]
    waits_for_witnesses: bool
    software: str
    sent_at_us: int
    snapshots_wanted: _containers.RepeatedCompositeFieldContainer[SnapshotWanted]
    measured_round_trip_seconds: int
    declared_round_trip_seconds: int
    facts: SiteFacts
    def __init__(self, ledger_size: _Optional[int] = ..., allocations: _Optional[_Iterable[_Union[AllocationReport, _Mapping]]] = ..., participations: _Optional[_Iterable[_Union[ParticipationReport, _Mapping]]] = ..., blobs_wanted: _Optional[_Iterable[bytes]] = ..., applied: _Optional[_Iterable[str]] = ..., waits_for_witnesses: _Optional[bool] = ..., software: _Optional[str] = ..., sent_at_us: _Optional[int] = ..., snapshots_wanted: _Optional[_Iterable[_Union[SnapshotWanted, _Mapping]]] = ..., measured_round_trip_seconds: _Optional[int] = ..., declared_round_trip_seconds: _Optional[int] = ..., facts: _Optional[_Union[SiteFacts, _Mapping]] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("run", "allocation", "lines")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    run: str
    allocation: str
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[str] = ..., allocation: _Optional[str] = ..., lines: _Optional[_Iterable[str]] = ...) -> None: ...
