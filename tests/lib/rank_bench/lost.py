# SPDX-License-Identifier: Apache-2.0
"""`python -m rank_bench.lost CASE DIR`: three ranks, of which rank 1 is lost; the others write down what they say.

Cases: "killed" while the ranks talk to each other, "in-step" in a collective of the program's own, "before-leader"
where rank 0 looks later than rank 2, "silent" where rank 1 lives and says nothing.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from site_agent.inner_loop.team import RankLostError, Team, gather_teams

SILENCE_SECONDS = 3.0
NOTICE_SECONDS = 30.0


def killed(team: Team) -> None:
    """In the middle of a conversation."""
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    team.gathered(b"")


def in_step(team: Team) -> None:
    """In the middle of a step."""
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(4))


def before_leader(team: Team) -> None:
    """Rank 0 is busy with something of its own."""
    if team.rank == 0:
        while not team.gone():
            time.sleep(0.02)
        time.sleep(1.0)
    killed(team)


def silent(team: Team) -> None:
    """The others wait as long as they were told."""
    if team.rank == 1:
        time.sleep(60)
    team.gathered(b"")


CASES: dict[str, Callable[[Team], None]] = {
    "killed": killed,
    "in-step": in_step,
    "before-leader": before_leader,
    "silent": silent,
}


def own_errors_pass(team: Team) -> None:
    """What is no rank's loss stays what it is."""
    try:
        with team.losing_ranks():
            torch.ones(2) + torch.ones(3)
    except RankLostError as error:
        raise AssertionError("expected the program's own error") from error
    except RuntimeError:
        return
    raise AssertionError("expected an error")


def main(case: str, directory: Path) -> None:
    """One case on this rank."""
    team = gather_teams(seconds=SILENCE_SECONDS).training
    own_errors_pass(team)
    team.gathered(b"")
    assert team.gone() == ()
    try:
        with team.losing_ranks():
            CASES[case](team)
    except RankLostError as error:
        (directory / f"{case}.{team.rank}").write_text(error.diagnostics())
        team.outlast_leader()
        if team.leads:
            wait_for_the_other(directory / f"{case}.2")
    os._exit(0)


def wait_for_the_other(said: Path) -> None:
    """Rank 2 may notice late on a busy machine, and would find rank 0 gone as well."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while not said.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
