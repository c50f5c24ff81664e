# SPDX-License-Identifier: Apache-2.0
"""Benchmark tasks scored by an executable of the site, such as lm-evaluation-harness, beside training.

It gets the model as a directory, and leaves results in the harness's layout; it runs as the command trainer's does
(`command_process`): in a filtered environment, and never longer than the job. Training goes on meanwhile. Words in
braces in site.toml's arguments are replaced: {model}, {tasks}, {output}, {device}; the same is in `order.json`, whose
path is in FEDERATION_WORK_ORDER.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from federation.durable.real import RealFileSystem
from federation.manifest import Manifest
from site_agent.data_sets import DataFormat
from site_agent.inner_loop.seam import Float32Array, ScoredTasks, TaskProgress
from site_agent.jobs import EvaluationOrder, RunPaths, WorkOrder
from site_agent.json_records import write_record
from site_agent.trainer.command_guard import EXIT_NOT_STARTED
from site_agent.trainer.command_process import CommandEnd, command_environment, running_command
from site_agent.trainer.task_export import export_model
from site_agent.trainer.task_results import ResultsError, read_results

ORDER_FILE: Final = "order.json"
_HUGGING_FACE: Final = ("HF_", "TRANSFORMERS_")
_SECRETS: Final = ("KEY", "TOKEN", "SECRET", "PASSW")


@dataclass(frozen=True, kw_only=True)
class TaskCommandOrder:
    """`order.json`, for the executable. Paths are absolute.

    Attributes:
        num_commits: commits in the model.
        model: directory with `model.safetensors`, and what Hugging Face's libraries need beside it.
        tasks: as the executable calls them.
        output: directory for its results; the newest `*.json` in it counts.
        seconds: after which it is killed.
    """

    run: str
    site: str
    num_commits: int
    model: str
    tasks: tuple[str, ...]
    output: str
    device: str
    num_threads: int
    seconds: float
    format: int = 1


class CommandScorer:
    """Scores the tasks that the site's command knows.

    Args:
        run: the run's directory.
    """

    def __init__(self, manifest: Manifest, order: WorkOrder, run: RealFileSystem) -> None:
        self._manifest, self._job, self._fs = manifest, order, run
        self._tasks = order.evaluation.of_command
        self._work = f"{RunPaths().tasks}/command"

    def score(
        self, order: EvaluationOrder, parameters: Callable[[], Mapping[str, Float32Array]]
    ) -> Iterator[TaskProgress | ScoredTasks]:
        """Exports the model, runs the command to its end, reads what it left."""
        try:
            command = self._prepare(order, parameters())
            yield TaskProgress.WORKED
            end = yield from self._run(command)
            if end is None:
                yield self._failed(f"expected the command to end within {command.seconds:.0f} s; it was ended")
            elif end.code != 0:
                yield self._failed(_why(end))
            else:
                yield read_results(self._fs.real_path(f"{self._work}/output"), self._tasks)
        except ResultsError as error:
            yield self._failed(str(error))
        finally:
            self._fs.remove_tree(self._work)

    def _prepare(self, order: EvaluationOrder, parameters: Mapping[str, Float32Array]) -> TaskCommandOrder:
        self._fs.remove_tree(self._work)
        self._fs.mkdir(f"{self._work}/output")
        reads_bytes = all(data.format is not DataFormat.MEGATRON for data in self._job.data_sets)
        export_model(self._fs, f"{self._work}/model", self._manifest, parameters, reads_bytes=reads_bytes)
        command = TaskCommandOrder(
            run=self._job.run,
            site=self._job.site,
            num_commits=order.num_commits,
            model=self._path("model"),
            tasks=tuple(task.harness_task for task in self._tasks),
            output=self._path("output"),
            device=self._job.device,
            num_threads=self._job.num_threads,
            seconds=self._job.evaluation.max_seconds,
        )
        write_record(self._fs, f"{self._work}/{ORDER_FILE}", command)
        return command

    def _run(self, order: TaskCommandOrder) -> Generator[TaskProgress, None, CommandEnd | None]:
        """Its end, None if it took too long. Whoever drops this kills it."""
        directory = self._fs.real_path(self._work)
        environment = command_environment(os.environ, directory / ORDER_FILE) | _hugging_face(os.environ)
        deadline = time.monotonic() + order.seconds
        with running_command(_arguments(self._job.evaluation.command, order), directory, environment) as process:
            while (code := process.poll()) is None:
                if time.monotonic() > deadline:
                    return None
                yield TaskProgress.WAITS
        return CommandEnd(code=code)

    def _failed(self, reason: str) -> ScoredTasks:
        return ScoredTasks(problems=tuple(f"{task.name} {task.language}: {reason}" for task in self._tasks))

    def _path(self, name: str) -> str:
        return str(self._fs.real_path(f"{self._work}/{name}"))


def _arguments(command: tuple[str, ...], order: TaskCommandOrder) -> tuple[str, ...]:
    """The command with its words in braces replaced; no shell reads it."""
    words = {
        "{model}": order.model,
        "{tasks}": ",".join(order.tasks),
        "{output}": order.output,
        "{device}": order.device,
    }
    return tuple(_replaced(argument, words) for argument in command)


def _replaced(argument: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        argument = argument.replace(word, value)
    return argument


def _hugging_face(environment: Mapping[str, str]) -> dict[str, str]:
    """Where data sets lie, and that nothing is fetched; never a token."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_HUGGING_FACE) and not any(word in name for word in _SECRETS)
    }


def _why(end: CommandEnd) -> str:
    if end.code == EXIT_NOT_STARTED:
        return "expected evaluation.command to be an executable that can be started, found none"
    return f"expected the command to end with exit status 0, found {end.describe()}; the job's log has what it printed"
