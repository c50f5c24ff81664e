# SPDX-License-Identifier: Apache-2.0
"""What rank 0 tells the other ranks to do next, all of them together. JSON, as every file of a job."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from federation.errors import FederationError
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.team import FAREWELL_SECONDS, RankLostError, Team, failure_bytes
from site_agent.jobs import ChainLink, OutcomeFile
from site_agent.json_records import decode, encode

_log = logging.getLogger(__name__)

BEAT_SECONDS: Final = 20.0
"""While rank 0 waits for orders, it says so this often: ranks that hear nothing for much longer give up."""


class Act(StrEnum):
    """What is done together."""

    WAIT = "wait"
    """Nothing: a sign of life."""
    BEGIN = "begin"
    ENCODE = "encode"
    RESEND = "resend"
    MERGE = "merge"
    ADOPT = "adopt"
    RELOAD = "reload"
    SAVE = "save"
    LOAD = "load"
    RESTORE = "restore"
    STEP = "step"
    END = "end"
    FAIL = "fail"
    """The job cannot go on: every rank ends with rank 0's error."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One act and what it needs.

    Attributes:
        rate: learning rate of a step.
        num_steps: inner steps that the site has taken before it.
        round: that is encoded or sent again; of a training checkpoint the round that it leaves out, -1 for none.
        checkpoint: number of the training checkpoint to load.
        failure: class, sentence and advice of rank 0's error, as `team.failure_bytes` has them.
    """

    act: Act
    rate: float = 0.0
    num_steps: int = 0
    round: int = -1
    fragment: int = 0
    entry: InFlight | None = None
    outcome: OutcomeFile | None = None
    chains: tuple[tuple[ChainLink, ...], ...] = ()
    forget_feedback: bool = False
    checkpoint: int = 0
    versions: tuple[int, ...] = ()
    digests: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class ChainAnswer:
    """The commits of one fragment, for all ranks."""

    links: tuple[ChainLink, ...]


def announce(team: Team, command: Command) -> None:
    """On rank 0: everybody does this now."""
    team.from_leader(encode(command))


def announce_failure(team: Team, error: FederationError) -> None:
    """On rank 0: nothing is done any more, for this reason. Waits for nobody for long."""
    command = Command(act=Act.FAIL, failure=failure_bytes(error).decode())
    try:
        team.from_leader(encode(command), seconds=FAREWELL_SECONDS)
    except RankLostError as lost:
        _log.warning("%s", lost)


def next_command(team: Team) -> Command:
    """On every other rank: what is done now. Waits for it."""
    return decode(Command, team.from_leader(), "command of rank 0")
