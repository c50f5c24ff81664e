# SPDX-License-Identifier: Apache-2.0
"""The command trainer's job with `toy_command` as its executable: `python -m toy_command_job ALLOCATION_DIR`.

A file `kill-once-at` above the allocation holds failpoints, one a line; each job takes one and dies of it.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from federation.durable.real import RealFileSystem
from site_agent.inner_loop.last_word import job_main
from site_agent.jobs import AllocationPaths, WorkOrder, read_record, write_record
from site_agent.trainer.command import run

KILLS_FILE = "kill-once-at"
TOY = (sys.executable, str(Path(__file__).parent / "toy_command.py"))


def arm(directory: Path) -> None:
    """Takes the next failpoint, if there is one."""
    for parent in directory.parents:
        kills = parent / KILLS_FILE
        if kills.exists() and (names := kills.read_text().split()):
            kills.write_text("\n".join(names[1:]))
            os.environ["FEDERATION_FAILPOINTS"] = f"{names[0]}=kill"
            return


def give_command(directory: Path) -> None:
    """What site.toml would say."""
    fs = RealFileSystem(directory)
    order = read_record(fs, AllocationPaths().order, WorkOrder)
    assert order is not None
    write_record(fs, AllocationPaths().order, replace(order, command=TOY))


def work(allocation: Path) -> str:
    """The job."""
    arm(allocation)
    give_command(allocation)
    return run(allocation).sentence


if __name__ == "__main__":
    sys.exit(job_main(work, sys.argv[1:], "toy_command_job"))
