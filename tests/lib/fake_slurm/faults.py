# SPDX-License-Identifier: Apache-2.0
"""What goes wrong: a list of faults in `faults.json`, which a test may rewrite at any moment."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

KINDS: Final = (
    "delay",
    "refuse",
    "fail_after",
    "hang_before",
    "hang_after",
    "duplicate",
    "empty",
    "orphan",
    "unreachable",
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of one command.

    Attributes:
        command: "sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo".
        kind: delay (then works); refuse (does nothing, says `says`, ends with `status`); fail_after (does its work,
            then says `says`, prints nothing and ends with `status`); hang_before and hang_after (does nothing or its
            work, and then waits until it is killed); duplicate (sbatch submits twice and prints the second id); empty
            (prints nothing, status 0); orphan (sbatch waits until it is killed, and its job appears after `ticks` calls
            of `FakeSlurm.tick`, or after `seconds`); unreachable (the controller, or for sacct the database, doesn't
            answer: the real sentence and status).
        times: for how many calls, 0 for all.
        when: only calls with this among the arguments, "" for every call.
    """

    command: str
    kind: str
    times: int = 0
    when: str = ""
    seconds: float = 0.0
    ticks: int = 0
    status: int = 1
    says: str = ""


def write_faults(directory: Path, faults: "list[Fault] | tuple[Fault, ...]") -> None:
    """Replaces the plan."""
    unknown = [fault.kind for fault in faults if fault.kind not in KINDS]
    if unknown:
        raise ValueError(f"fault: expected a kind of {', '.join(KINDS)}, found {unknown[0]}")
    temporary = directory / f"faults.json.{os.getpid()}"
    temporary.write_text(json.dumps([asdict(fault) for fault in faults]))
    temporary.replace(directory / "faults.json")


def take_fault(directory: Path, command: str, arguments: list[str]) -> Fault | None:
    """The first fault that meets this call; one with a number of times is used up. Call it under the store's lock."""
    try:
        plan = [Fault(**entry) for entry in json.loads((directory / "faults.json").read_text())]
    except FileNotFoundError:
        return None
    for index, fault in enumerate(plan):
        if fault.command == command and (not fault.when or any(fault.when in word for word in arguments)):
            if fault.times:
                left = [Fault(**{**asdict(fault), "times": fault.times - 1})] if fault.times > 1 else []
                write_faults(directory, [*plan[:index], *left, *plan[index + 1 :]])
            return fault
    return None
