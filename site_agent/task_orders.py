# SPDX-License-Identifier: Apache-2.0
"""Which benchmark tasks a site scores, and how, as a work order carries it. Neither numpy nor torch."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark task in one language: scored by the job itself (`path`), or by the site's command.

    Attributes:
        name: what it is called towards others, alike at all sites.
        language: code of its language.
        path: absolute, of a file of items; "" where the command scores it.
        harness_task: what the command calls it; "" where the job scores it.
        version: of its items; "" takes their digest, or what the command says.
        metrics: of the command's results that are taken; none: all that have an interval.
        max_items: of the file that are scored, the first ones; 0 for all.
    """

    name: str
    language: str
    path: str = ""
    harness_task: str = ""
    version: str = ""
    metrics: tuple[str, ...] = ()
    max_items: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """All of them.

    Attributes:
        command: executable and arguments, for the tasks that it scores.
        max_seconds: that the command may take.
        seconds_per_pause: of scoring at most between two windows, where a job never waits for anything.
    """

    tasks: tuple[Task, ...] = ()
    command: tuple[str, ...] = ()
    max_seconds: float = 3600.0
    seconds_per_pause: float = 10.0

    @property
    def of_files(self) -> tuple[Task, ...]:
        """Those that the job scores."""
        return tuple(task for task in self.tasks if task.path)

    @property
    def of_command(self) -> tuple[Task, ...]:
        """Those that the command scores."""
        return tuple(task for task in self.tasks if not task.path)


NO_TASKS: Final = TaskPlan()
"""Of a site that scores none."""
