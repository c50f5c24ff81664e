# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints: directories of safetensors files, made valid by a manifest that is published last.

Layout: `<base>/<number>/{<part>.safetensors, record.json, manifest.json}`. The manifest has size and SHA-256 of each
part. A directory without it was never finished; one whose parts differ from it is damaged, then the one before counts.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from safetensors.torch import load as load_tensors

from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError, FederationError, TrainingError
from site_agent.json_records import decode, encode, read_record, write_record
from site_agent.trainer.pieces import StoredTensors, is_of_ranks, open_tensors, whole_parts
from site_agent.trainer.tensor_file import PIECE_BYTES, Tensors, write_tensors

R = TypeVar("R")
L = TypeVar("L")

_RECORD = "record.json"
_MANIFEST = "manifest.json"
_TENSORS = ".safetensors"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a training checkpoint."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """What makes a directory a training checkpoint.

    Attributes:
        format: 1 where one process wrote whole vectors, 2 where several ranks wrote pieces (`trainer.pieces`).
    """

    number: int
    parts: tuple[Part, ...]
    format: int = 1


class TrainingCheckpoints:
    """The training checkpoints of one run at one site, newest last.

    Args:
        fs: where they are.
        base: directory inside it.
        keep: how many stay when a new one is valid.
    """

    def __init__(self, fs: FileSystem, base: str = "training", keep: int = 2) -> None:
        self._fs, self._base, self._keep = fs, base, keep

    def save(self, record: object, parts: Mapping[str, Tensors]) -> int:
        """Writes one checkpoint; it is durable and valid when this returns, and not at all if this is cut short.

        Memory: a few MiB besides the tensors, which must not change meanwhile.

        Args:
            record: a dataclass for `json_records`.
            parts: tensors by file and name.

        Returns:
            Its number.
        """
        number = self.next_number()
        self._write_record(number, data := encode(record))
        self._publish(number, data, [self.write_part(number, name, parts[name]) for name in parts])
        return number

    def load(self, kind: type[R]) -> tuple[R, dict[str, dict[str, torch.Tensor]]] | None:
        """Record and parts of the newest checkpoint that is whole, or None if there never was one.

        Raises:
            CorruptObjectError: there are some, all of them damaged.
        """
        return self._newest(lambda number: self._load(number, kind))

    # --- one step at a time, for ranks that write and read together ---------------------------------------------------

    def next_number(self) -> int:
        """Of a training checkpoint to be written."""
        return max(self._numbers(), default=0) + 1

    def write_part(self, number: int, name: str, tensors: Tensors) -> Part:
        """Writes one file, durably; it counts for nothing before `finish` lists it."""
        num_bytes, sha256 = write_tensors(self._fs, f"{self._base}/{number}/{name}{_TENSORS}", tensors)
        return Part(name=f"{name}{_TENSORS}", num_bytes=num_bytes, sha256=sha256)

    def finish(self, number: int, record: object, parts: Sequence[Part]) -> None:
        """Makes what these parts are a training checkpoint."""
        self._write_record(number, data := encode(record))
        self._publish(number, data, parts)

    def manifest(self, number: int) -> CheckpointManifest:
        """What a finished training checkpoint lists.

        Raises:
            CorruptObjectError: it has no manifest.
        """
        path = f"{self._base}/{number}/{_MANIFEST}"
        manifest = read_record(self._fs, path, CheckpointManifest)
        if manifest is None:
            raise CorruptObjectError(f"{path}: expected the manifest of a training checkpoint, found none")
        return manifest

    def check_part(self, number: int, part: Part) -> None:
        """Hashes one file, piece by piece. Raises CorruptObjectError if it is not what the manifest says."""
        path, digest = f"{self._base}/{number}/{part.name}", hashlib.sha256()
        num_bytes = self._fs.size(path)
        for start in range(0, num_bytes, PIECE_BYTES):
            digest.update(self._fs.read_range(path, start, PIECE_BYTES))
        found = Part(name=part.name, num_bytes=num_bytes, sha256=digest.hexdigest())
        if found != part:
            raise CorruptObjectError(f"{path}: expected {part}, found {found}")

    def read_record(self, number: int, kind: type[R]) -> R:
        """The record of a training checkpoint whose parts were checked."""
        path = f"{self._base}/{number}/{_RECORD}"
        return decode(kind, self._fs.read(path), path)

    def open_parts(self, number: int) -> dict[str, StoredTensors]:
        """Its tensors by kind, whoever wrote them; they are read when they are asked for."""
        names = [part.name for part in self.manifest(number).parts if part.name != _RECORD]
        return open_tensors(self._fs, f"{self._base}/{number}", (n.removesuffix(_TENSORS) for n in names), _TENSORS)

    def _write_record(self, number: int, data: bytes) -> None:
        self._fs.write(f"{self._base}/{number}/{_RECORD}", data)

    def _publish(self, number: int, record: bytes, parts: Sequence[Part]) -> None:
        listed, kind = (*parts, _part(_RECORD, record)), 2 if any(is_of_ranks(part.name) for part in parts) else 1
        manifest = CheckpointManifest(number=number, parts=listed, format=kind)
        write_record(self._fs, f"{self._base}/{number}/{_MANIFEST}", manifest)
        self._prune()

    def _newest(self, load: Callable[[int], L]) -> L | None:
        finished = [n for n in self._numbers() if self._fs.exists(f"{self._base}/{n}/{_MANIFEST}")]
        problem: FederationError | None = None
        for number in reversed(finished):
            try:
                return load(number)
            except TrainingError:
                raise
            except FederationError as error:
                _log.warning("training checkpoint %d is left out: %s", number, error)
                problem = problem or error
        if problem is not None:
            raise CorruptObjectError(
                f"{self._base}: expected a whole training checkpoint, found {len(finished)} damaged ones; {problem}",
                advice="Remove this directory to rejoin the run from its last commit, with a new optimizer state.",
            )
        return None

    def _load(self, number: int, kind: type[R]) -> tuple[R, dict[str, dict[str, torch.Tensor]]]:
        base = f"{self._base}/{number}"
        manifest = read_record(self._fs, f"{base}/{_MANIFEST}", CheckpointManifest)
        assert manifest is not None
        listed = {part.name: part for part in manifest.parts}
        record = decode(kind, self._read_part(base, listed.pop(_RECORD)), f"{base}/{_RECORD}")
        return record, whole_parts(
            {name.removesuffix(_TENSORS): load_tensors(self._read_part(base, listed[name])) for name in listed}
        )

    def _read_part(self, base: str, part: Part) -> bytes:
        data = self._fs.read(f"{base}/{part.name}")
        if (found := _part(part.name, data)) != part:
            raise CorruptObjectError(f"{base}/{part.name}: expected {part}, found {found}")
        return data

    def _numbers(self) -> list[int]:
        names = self._fs.list(self._base)
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _prune(self) -> None:
        """Leaves the newest `keep` valid ones, and nothing unfinished below them."""
        valid = [n for n in self._numbers() if self._fs.exists(f"{self._base}/{n}/{_MANIFEST}")]
        oldest = valid[-self._keep :][0]
        for number in self._numbers():
            if number < oldest or number not in valid:
                self._fs.remove_tree(f"{self._base}/{number}")


def _part(name: str, data: bytes) -> Part:
    return Part(name=name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
