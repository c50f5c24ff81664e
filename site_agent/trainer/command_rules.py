# SPDX-License-Identifier: Apache-2.0
"""What agents ask about the command trainer, without torch: which runs it can serve, and what its command is."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from federation.plan import Plan
from federation.schedule import Schedule


def why_not_in_whole_windows(plan: Plan, site: str) -> str:
    """Why this site cannot train whole windows in this run, as a sentence with expected and found; "" if it can.

    A round is merged tau inner steps after its boundary. Where that is the end of a later window (tau a multiple of
    H_i/P, 0 for instance), every window can be trained by somebody who sees only its begin and its end.
    """
    member = next((m for m in plan.members if m.site == site), None)
    if member is None:
        return f"expected {site} among the run's sites, found it is none of them"
    schedule = Schedule(
        num_inner_steps=member.num_inner_steps,
        num_fragments=plan.num_fragments,
        tau=plan.tau,
        first_window_steps=plan.first_window_steps,
    )
    if plan.tau % schedule.window_steps == 0:
        return ""
    return (
        f"expected a run that merges nothing inside a window (schedule.tau 0 or a multiple of "
        f"{schedule.window_steps} inner steps), which the command trainer needs; found tau {plan.tau}"
    )


def command_digest(command: Sequence[str]) -> str:
    """SHA-256 of a command, for the policy's digest of its trainer: the arguments, and what is in the files they name.

    An argument that is the absolute path of a file (the executable, a script, a container image) counts by its text and
    by its content; what those load in turn is the site's own care.
    """
    lines = [f"{_content(argument)}  {len(argument.encode())}  {argument}\n" for argument in command]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _content(argument: str) -> str:
    """SHA-256 of the file of that name, "-" if it names none or none that can be read."""
    try:
        path = Path(argument)
        if not path.is_absolute() or not path.is_file():
            return "-"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return "-"
