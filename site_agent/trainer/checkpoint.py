# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints: directories of safetensors files, made valid by a manifest that is published last.

Layout: `<base>/<number>/{<part>.safetensors, record.json, manifest.json}`. The manifest has size and SHA-256 of each
part. A directory without it was never finished; one whose parts differ from it is damaged, then the one before counts.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from safetensors.torch import load as load_tensors

from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError, FederationError
from site_agent.json_records import decode, encode, read_record, write_record
from site_agent.trainer.tensor_file import Tensors, write_tensors

R = TypeVar("R")

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
    """What makes a directory a training checkpoint."""

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
        number = max(self._numbers(), default=0) + 1
        base, data = f"{self._base}/{number}", encode(record)
        self._fs.write(f"{base}/{_RECORD}", data)
        listed = (*(self._write_part(base, name, parts[name]) for name in parts), _part(_RECORD, data))
        manifest = CheckpointManifest(number=number, parts=listed)
        write_record(self._fs, f"{base}/{_MANIFEST}", manifest)
        self._prune()
        return number

    def load(self, kind: type[R]) -> tuple[R, dict[str, dict[str, torch.Tensor]]] | None:
        """Record and parts of the newest checkpoint that is whole, or None if there never was one.

        Raises:
            CorruptObjectError: there are some, all of them damaged.
        """
        finished = [n for n in self._numbers() if self._fs.exists(f"{self._base}/{n}/{_MANIFEST}")]
        problem: FederationError | None = None
        for number in reversed(finished):
            try:
                return self._load(number, kind)
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
        return record, {
            name.removesuffix(_TENSORS): load_tensors(self._read_part(base, listed[name])) for name in listed
        }

    def _write_part(self, base: str, name: str, tensors: Tensors) -> Part:
        num_bytes, sha256 = write_tensors(self._fs, f"{base}/{name}{_TENSORS}", tensors)
        return Part(name=f"{name}{_TENSORS}", num_bytes=num_bytes, sha256=sha256)

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
