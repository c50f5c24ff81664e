# SPDX-License-Identifier: Apache-2.0
"""`[evaluation]` of site.toml: benchmark tasks that this site scores of its own choice."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from federation.config import Problem, Section, describe
from federation.task_scores import METRIC_PATTERN, TASK_PATTERN, VERSION_PATTERN
from site_agent.data_settings import Language
from site_agent.task_orders import Task, TaskPlan

MAX_TASKS: Final = 300
NEVER: Final = -1
"""In place of the number of commits between two evaluations, where there are no tasks."""


def _matches(pattern: str, words: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(words)
        return value

    return AfterValidator(check)


Argument = Annotated[str, Field(min_length=1, max_length=4096), _matches(r"[^\x00-\x1f\x7f]*", "one line of text")]
Metric = Annotated[str, _matches(METRIC_PATTERN, "a metric's name such as acc_norm")]
TaskName = Annotated[
    str, _matches(TASK_PATTERN, "lower-case letters, digits, hyphens and underscores, 1 to 64 of them")
]
Version = Annotated[str, _matches(rf"({VERSION_PATTERN})?", "up to 20 letters, digits, dots and hyphens")]
HarnessName = Annotated[str, _matches(r"[A-Za-z0-9_./:-]{0,200}", "a task's name as the command knows it")]


class TaskEntry(Section):
    """`[[evaluation.tasks]]`: one task in one language; `task_orders.Task` says what each key means."""

    name: TaskName
    language: Language
    path: Annotated[str, StringConstraints(max_length=4096)] = ""
    harness_task: HarnessName = ""
    version: Version = ""
    metrics: Annotated[tuple[Metric, ...], Field(strict=False, max_length=10)] = ()
    max_items: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class EvaluationSection(Section):
    """`[evaluation]`: when tasks are scored, and by which command where the job does not do it itself."""

    every_commits: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    command: Annotated[tuple[Argument, ...], Field(strict=False, max_length=100)] = ()
    max_seconds: Annotated[float, Field(gt=0, le=366 * 86_400)] = 3600.0
    seconds_per_pause: Annotated[float, Field(ge=0, le=3600)] = 10.0
    tasks: Annotated[tuple[TaskEntry, ...], Field(strict=False, max_length=MAX_TASKS)] = ()

    @property
    def every(self) -> int:
        """Commits between two evaluations, 0 for the first and the last model only, `NEVER` without tasks."""
        return self.every_commits if self.tasks else NEVER

    def plan(self, site_dir: Path) -> TaskPlan:
        """What a work order carries, with absolute paths."""
        tasks = tuple(
            Task(
                name=entry.name,
                language=entry.language,
                path=str((site_dir / entry.path).absolute()) if entry.path else "",
                harness_task=entry.harness_task,
                version=entry.version,
                metrics=entry.metrics,
                max_items=entry.max_items,
            )
            for entry in self.tasks
        )
        return TaskPlan(
            tasks=tasks,
            command=self.command,
            max_seconds=self.max_seconds,
            seconds_per_pause=self.seconds_per_pause,
        )


def task_problems(section: EvaluationSection, site_dir: Path) -> Iterator[Problem]:
    """What is wrong between the keys of the section, and with the files that it names."""
    named = set()
    for number, entry in enumerate(section.tasks, start=1):
        key = f"evaluation.tasks[{number}]"
        if (entry.name, entry.language) in named:
            yield Problem(key=f"{key}.name", expected="each name and language once", found=describe(entry.name))
        named.add((entry.name, entry.language))
        if bool(entry.path) == bool(entry.harness_task):
            found = "both" if entry.path else "neither"
            yield Problem(key=key, expected="either path or harness_task", found=found)
        elif entry.path and not (site_dir / entry.path).is_file():
            found = f"none at {(site_dir / entry.path).absolute()}"
            yield Problem(key=f"{key}.path", expected="a file of items", found=found)
    yield from _command_problems(section)


def _command_problems(section: EvaluationSection) -> Iterator[Problem]:
    wanted = any(entry.harness_task for entry in section.tasks)
    if wanted and not section.command:
        yield Problem(key="evaluation.command", expected="the command that scores harness_task", found="none")
    elif section.command and not wanted:
        expected = "none, since no task has a harness_task"
        yield Problem(key="evaluation.command", expected=expected, found=describe(section.command[0]))
    elif section.command and not Path(section.command[0]).is_absolute():
        expected = "the absolute path of an executable first"
        yield Problem(key="evaluation.command", expected=expected, found=describe(section.command[0]))
