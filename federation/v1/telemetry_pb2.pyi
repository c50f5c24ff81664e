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

class SiteStatus(_message.Message):
    __slots__ = ("ledger_size", "allocations", "participations", "blobs_wanted", "applied", "waits_for_witnesses", "software", "sent_at_us", "snapshots_wanted", "measured_round_trip_seconds", "declared_round_trip_seconds")
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
    def __init__(self, ledger_size: _Optional[int] = ..., allocations: _Optional[_Iterable[_Union[AllocationReport, _Mapping]]] = ..., participations: _Optional[_Iterable[_Union[ParticipationReport, _Mapping]]] = ..., blobs_wanted: _Optional[_Iterable[bytes]] = ..., applied: _Optional[_Iterable[str]] = ..., waits_for_witnesses: _Optional[bool] = ..., software: _Optional[str] = ..., sent_at_us: _Optional[int] = ..., snapshots_wanted: _Optional[_Iterable[_Union[SnapshotWanted, _Mapping]]] = ..., measured_round_trip_seconds: _Optional[int] = ..., declared_round_trip_seconds: _Optional[int] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("run", "allocation", "lines")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    run: str
    allocation: str
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[str] = ..., allocation: _Optional[str] = ..., lines: _Optional[_Iterable[str]] = ...) -> None: ...
