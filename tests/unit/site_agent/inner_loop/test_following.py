# SPDX-License-Identifier: Apache-2.0
"""A rank other than 0 ends when and why rank 0 says so; with an error of its own it takes no further step."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from federation.errors import CorruptObjectError, DiskFullError
from site_agent.inner_loop.commands import Act, Command
from site_agent.inner_loop.following import Follower
from site_agent.inner_loop.owned_exchange import OwnedExchange
from site_agent.inner_loop.rank_checkpoints import RankCheckpoints
from site_agent.inner_loop.seam import Trainer
from site_agent.inner_loop.team import Team, failure_bytes, failure_of
from site_agent.inner_loop.writer import InlineWriter
from site_agent.json_records import encode

FULL = DiskFullError("training: expected room, found none left", advice="Make room.")


class Told:
    """Stands for a team in which rank 0 says this, one after the other."""

    rank = 1

    def __init__(self, *commands: Command) -> None:
        self._commands = [encode(command) for command in commands]

    def from_leader(self) -> bytes:
        """The next one."""
        return self._commands.pop(0)


class Spoiled:
    """An exchange whose files are damaged."""

    def reload(self, *arguments: Any, **options: Any) -> None:
        """Cannot."""
        raise CorruptObjectError("blob: expected 3 bytes, found 2")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


def follower(*commands: Command) -> Follower:
    return Follower(
        trainer=cast(Trainer, None),
        exchange=cast(OwnedExchange, Spoiled()),
        checkpoints=cast(RankCheckpoints, None),
        team=cast(Team, Told(*commands)),
        writer=InlineWriter(),
    )


def test_it_ends_with_what_rank_0_could_not_do() -> None:
    fail = Command(act=Act.FAIL, failure=failure_bytes(FULL).decode())
    with pytest.raises(DiskFullError, match="found none left") as caught:
        follower(Command(act=Act.BEGIN), fail).prepare()
    assert caught.value.advice == "Make room."


def test_an_error_here_waits_for_rank_0s_word() -> None:
    fail = Command(act=Act.FAIL, failure=failure_bytes(FULL).decode())
    with pytest.raises(DiskFullError):
        follower(Command(act=Act.RELOAD), fail).prepare()


def test_an_error_here_alone_ends_this_rank_before_the_next_act() -> None:
    with pytest.raises(CorruptObjectError, match="expected 3 bytes"):
        follower(Command(act=Act.RELOAD), Command(act=Act.STEP, rate=0.1)).prepare()


def test_steps_and_the_end_are_rank_0s() -> None:
    one = follower(Command(act=Act.WAIT), Command(act=Act.STEP, rate=0.25, num_steps=7), Command(act=Act.END))
    assert one.prepare() == 0.25
    assert one.num_steps == 7
    assert one.prepare() is None
    assert one.ended is not None


def test_an_error_that_travels_keeps_its_class_where_it_can() -> None:
    found = failure_of(failure_bytes(FULL))
    assert (type(found), str(found), found.advice) == (DiskFullError, str(FULL), FULL.advice)
    assert failure_bytes(None) == b""
