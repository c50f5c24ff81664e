# SPDX-License-Identifier: Apache-2.0
"""What a site's executable gets and leaves for one window: `work_order.json`, `result.json` and two tensor files.

What it leaves is not trusted: sizes are bounded, nothing but plain files is opened, tensors are read piece by piece.
Messages hold only our own words and numbers; the executable's words go to the job's log.
"""

import json
import logging
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np
import torch

from federation.errors import ConfigError, NonFiniteUpdateError
from federation.manifest import FragmentTable, InnerSettings, TrainerSettings
from federation.tensor_file import MAX_HEADER_BYTES, TensorFile
from site_agent.data_sets import DataSet
from site_agent.inner_loop.allocation import ModelDiffersError
from site_agent.trainer.command_process import CommandFailedError

ORDER_FILE: Final = "work_order.json"
BASE_FILE: Final = "base.safetensors"
WEIGHTS_FILE: Final = "weights.safetensors"
RESULT_FILE: Final = "result.json"
STATE_DIR: Final = "state"

MAX_RESULT_BYTES: Final = 64 * 1024
MAX_METRICS: Final = 64
PIECE_ELEMENTS: Final = 1024 * 1024
_MAX_COUNT: Final = 2**53
_METRIC_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,63}", re.ASCII)
_OTHER_DTYPES: Final = ("BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL")

Parameters: TypeAlias = Mapping[str, torch.Tensor]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CommandOrder:
    """`work_order.json`: one window, for the executable. Paths are absolute.

    Attributes:
        num_steps: inner steps to take.
        num_steps_before: that this site has taken in the run before this window.
        lr_position: of the window's begin in the run's learning-rate schedule, in nominal inner steps.
        learning_rates: of each inner step.
        inner, trainer: what the manifest says about optimizer and batches, alike for all sites.
        seed: of this site's data order, besides `trainer.seed`.
        data_dir, languages, data_sets, device, num_threads: as site.toml says; see `jobs.WorkOrder`.
        is_continued: `state_dir` is what this same window left when it was asked to end early, not its begin.
        seconds_left, deadline: until the allocation's wall time, and that as unix time; -1 and 0 if there is none.
        base: fp32 parameters at the window's begin, all fragments; where training starts.
        state_dir: the executable's own files, as they were at the window's begin.
        weights, result: to be left.
    """

    run: str
    site: str
    round: int
    fragment: int
    num_steps: int
    num_steps_before: int
    lr_position: int
    learning_rates: tuple[float, ...]
    inner: InnerSettings
    trainer: TrainerSettings
    seed: int
    data_dir: str
    languages: tuple[str, ...]
    data_sets: tuple[DataSet, ...]
    device: str
    num_threads: int
    is_continued: bool
    seconds_left: int
    deadline: float
    base: str
    state_dir: str
    weights: str
    result: str
    format: int = 1


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """`result.json`.

    Attributes:
        num_steps: inner steps taken.
        tokens: trained on.
        mean_loss: over these steps, nats per token; may be NaN or infinite.
        metrics: for the site's own log.
    """

    num_steps: int
    tokens: int
    mean_loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)


def read_result(path: Path, num_steps: int) -> CommandResult:
    """What the executable says it did.

    Raises:
        CommandFailedError: it is no such file, or says something else than that the window was trained.
    """
    with _plain_file(path, MAX_RESULT_BYTES) as (descriptor, size):
        data = os.pread(descriptor, size, 0)
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        _log.error("%s: %s", RESULT_FILE, error)
        raise _bad_result("a JSON object", "something that is no JSON") from None
    if not isinstance(raw, dict):
        raise _bad_result("a JSON object", f"JSON of another kind ({type(raw).__name__})")
    found_steps = _count(raw, "num_steps")
    if found_steps != num_steps:
        raise _bad_result(f"num_steps {num_steps}, as ordered", str(found_steps))
    tokens, loss = _count(raw, "tokens"), raw.get("mean_loss")
    if tokens < 1:
        raise _bad_result("tokens of at least 1", str(tokens))
    if not _is_number(loss):
        raise _bad_result("mean_loss, a number", "none")
    return CommandResult(num_steps=found_steps, tokens=tokens, mean_loss=float(loss), metrics=_metrics(raw))


def read_weights(path: Path, tables: Sequence[FragmentTable], live: Parameters) -> None:
    """Sets the live parameters to what the executable left; after an error they are of no use any more.

    Raises:
        CommandFailedError: there is no such plain file.
        ModelDiffersError: it is no safetensors file of exactly the run's parameters in fp32.
        NonFiniteUpdateError: an element is NaN or infinite.
    """
    entries = {entry.name: entry for table in tables for entry in table.entries}
    num_bytes = sum(4 * math.prod(entry.shape) for entry in entries.values())
    with _plain_file(path, num_bytes + MAX_HEADER_BYTES + 8) as (descriptor, size):
        file = _open_tensors(descriptor, size)
        _check_names(file, tables, len(entries))
        for name in entries:
            _read_tensor(file, name, live[name])


def _open_tensors(descriptor: int, size: int) -> TensorFile:
    def read_range(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset)

    try:
        return TensorFile.open(read_range, size, WEIGHTS_FILE)
    except ConfigError as error:
        _log.error("%s", error)
        found = _other_dtype(read_range(0, min(size, MAX_HEADER_BYTES))) or "a file that is cut short or another format"
        raise ModelDiffersError(
            f"{WEIGHTS_FILE}: expected fp32 tensors in one whole safetensors file, found {found}",
            advice="The executable must save fp32 master copies of its parameters, and end only when they are written.",
        ) from None


def _other_dtype(header: bytes) -> str:
    """A dtype that is not fp32 and that a header names, for a message; "" if there is none."""
    text = header[: int.from_bytes(header[:8], "little") + 8]
    return next((f"dtype {name}" for name in _OTHER_DTYPES if f'"{name}"'.encode() in text), "")


def _check_names(file: TensorFile, tables: Sequence[FragmentTable], num_expected: int) -> None:
    try:
        file.check_table(tables)
    except ConfigError as error:
        raise ModelDiffersError(str(error), advice="Names and shapes are those of base.safetensors.") from None
    if len(file.tensors) != num_expected:
        raise ModelDiffersError(
            f"{WEIGHTS_FILE}: expected the run's {num_expected} tensors, found {len(file.tensors)}",
            advice="Names and shapes are those of base.safetensors; optimizer state belongs into the state directory.",
        )


def _read_tensor(file: TensorFile, name: str, live: torch.Tensor) -> None:
    flat = live.view(-1).numpy()
    for start in range(0, flat.size, PIECE_ELEMENTS):
        values = file.elements(name, start, min(flat.size, start + PIECE_ELEMENTS))
        num_bad = int(np.count_nonzero(~np.isfinite(values)))
        if num_bad:
            raise NonFiniteUpdateError(
                f"{WEIGHTS_FILE}: expected finite weights, found {num_bad} NaN or infinite elements in {name}",
                advice="Nothing of this window is sent; the executable starts again from the window's begin.",
            )
        flat[start : start + values.size] = values


@contextmanager
def _plain_file(path: Path, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a file that is no link, device or pipe, and not longer than that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _not_left(path.name, f"none ({error.strerror})") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_left(path.name, "something else")
        if found.st_size > max_bytes:
            raise _not_left(path.name, f"{found.st_size} bytes, more than {max_bytes}")
        yield descriptor, found.st_size
    finally:
        os.close(descriptor)


def _not_left(name: str, found: str) -> CommandFailedError:
    return CommandFailedError(
        f"{name}: expected the executable to leave this file in its working directory, found {found}",
        advice="See the job's log for what it printed, and docs/trainers for what it must leave.",
    )


def _bad_result(expected: str, found: str) -> CommandFailedError:
    return CommandFailedError(
        f"{RESULT_FILE}: expected {expected}, found {found}",
        advice="See docs/trainers for what the executable must leave.",
    )


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_COUNT:
        raise _bad_result(f"{name}, a whole number from 0 to 2^53", "something else, or nothing")
    return value


def _metrics(raw: Mapping[str, Any]) -> dict[str, float]:
    metrics = raw.get("metrics", {})
    if not isinstance(metrics, dict) or len(metrics) > MAX_METRICS:
        raise _bad_result(f"metrics, an object of at most {MAX_METRICS} numbers", "something else")
    if not all(
        _METRIC_NAME.fullmatch(name) and _is_number(value) and math.isfinite(value) for name, value in metrics.items()
    ):
        raise _bad_result("metrics with finite numbers and names of at most 64 letters, digits, _ . / -", "others")
    return {name: float(value) for name, value in metrics.items()}


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or float that fp64 holds; NaN and infinity are, what they mean is for others to say."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < 2**1000
