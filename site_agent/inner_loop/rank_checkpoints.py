# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints of several ranks: each writes and reads its own part, rank 0 makes them valid and chooses one.

A file is hashed by one rank alone before anything of it is believed; the answer is everybody's.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import torch

from federation.durable.api import FileSystem
from federation.errors import FederationError
from site_agent.inner_loop.commands import Act, Command, announce
from site_agent.inner_loop.team import RankLostError, Team, Teams
from site_agent.json_records import decode, encode
from site_agent.trainer.checkpoint import Part, TrainingCheckpoints
from site_agent.trainer.pieces import StoredTensors
from site_agent.trainer.tensor_file import Tensors

R = TypeVar("R")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What one rank wrote."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class _Number:
    """Which training checkpoint is being written."""

    number: int


class RankCheckpoints(TrainingCheckpoints):
    """The training checkpoints of a job of several ranks, as a rank other than 0 sees them."""

    def __init__(self, fs: FileSystem, base: str, teams: Teams) -> None:
        super().__init__(fs, base)
        self._teams = teams

    def write_share(self, parts: Mapping[str, Tensors]) -> None:
        """On the writer's thread: this rank's part of the training checkpoint that rank 0 begins.

        An error is rank 0's to report: it gets it, too.
        """
        team = self._teams.writing
        number = decode(_Number, team.from_leader()).number
        try:
            self._write_together(team, number, parts)
        except RankLostError:
            raise
        except FederationError as error:
            _log.warning("training checkpoint %d was not written: %s", number, error)

    def _write_together(self, team: Team, number: int, parts: Mapping[str, Tensors]) -> list[Part]:
        """Every rank's files, durable; what all of them are."""
        mine = team.agree(lambda: tuple(self.write_part(number, name, parts[name]) for name in parts))
        found = team.gathered(encode(_Written(parts=mine)))
        return [part for data in found for part in decode(_Written, data).parts]

    def open_together(self, number: int, kind: type[R]) -> tuple[R, dict[str, StoredTensors]]:
        """The record and the tensors of a training checkpoint, which is checked first.

        Raises:
            CorruptObjectError, ProtocolError: it is not whole; on every rank alike.
        """
        team = self._teams.training
        team.agree(lambda: self._check_share(team, number))
        return team.agree(lambda: (self.read_record(number, kind), self.open_parts(number)))

    def _check_share(self, team: Team, number: int) -> None:
        for index, part in enumerate(self.manifest(number).parts):
            if index % team.size == team.rank:
                self.check_part(number, part)


class LeadingCheckpoints(RankCheckpoints):
    """The same on rank 0, for the inner loop: the others follow."""

    def save(self, record: object, parts: Mapping[str, Tensors]) -> int:
        """On the writer's thread; every rank has been told to lend what it has (`Act.SAVE`)."""
        team, number = self._teams.writing, self.next_number()
        team.from_leader(encode(_Number(number=number)))
        written = self._write_together(team, number, parts)
        self.finish(number, record, written)
        return number

    def load(self, kind: type[R]) -> tuple[R, dict[str, dict[str, torch.Tensor]]] | None:
        """As `TrainingCheckpoints.load`, but the tensors stay on the disk until they are asked for."""
        return self._newest(lambda number: self._open(number, kind))

    def _open(self, number: int, kind: type[R]) -> tuple[R, dict[str, dict[str, torch.Tensor]]]:
        announce(self._teams.training, Command(act=Act.LOAD, checkpoint=number))
        record, stored = self.open_together(number, kind)
        stored["trainer"] = stored["trainer"].of_rank(0)
        return record, cast("dict[str, dict[str, torch.Tensor]]", stored)
