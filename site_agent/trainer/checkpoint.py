# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints: directories of safetensors files, made valid by a manifest that is published last.

Layout: `<base>/<number>/{<part>.safetensors, record.json, manifest.json}`. The manifest has size and SHA-256 of each
part. A directory without it was never finished; one whose parts differ from it is damaged, then the one before counts.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError, FederationError
from site_agent.json_records import decode, encode, read_record, write_record

R = TypeVar("R")
Tensors: TypeAlias = Mapping[str, torch.Tensor]

_RECORD = "record.json"
_MANIFEST = "manifest.json"
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

        Args:
            record: a dataclass for `json_records`.
            parts: tensors by file and name.

        Returns:
            Its number.
        """
        number = max(self._numbers(), default=0) + 1
        files = {f"{name}.safetensors": save_tensors(_contiguous(tensors)) for name, tensors in parts.items()}
        files[_RECORD] = encode(record)
        for name, data in files.items():
            self._fs.write(f"{self._base}/{number}/{name}", data)
        listed = tuple(_part(name, data) for name, data in files.items())
        manifest = CheckpointManifest(number=number, parts=listed)
        write_record(self._fs, f"{self._base}/{number}/{_MANIFEST}", manifest)
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
        files = {part.name: self._read_part(base, part) for part in manifest.parts}
        record = decode(kind, files.pop(_RECORD), f"{base}/{_RECORD}")
        return record, {name.removesuffix(".safetensors"): load_tensors(data) for name, data in files.items()}

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


def _contiguous(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
