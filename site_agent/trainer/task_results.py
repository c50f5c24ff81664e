# SPDX-License-Identifier: Apache-2.0
"""Reads the results file of lm-evaluation-harness, or of whatever writes its layout.

    {"results": {"belebele_deu_Latn": {"acc,none": 0.31, "acc_stderr,none": 0.0154, ...}, ...},
     "versions": {"belebele_deu_Latn": 0.0}, "n-shot": {"belebele_deu_Latn": 0},
     "n-samples": {"belebele_deu_Latn": {"original": 900, "effective": 900}}}

Nothing in it is believed: sizes are bounded, every number is checked, and no text of it goes any further but versions
and metrics of their form.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Final

from federation.errors import ConfigError
from federation.leaves import TaskScore
from federation.task_scores import MAX_ITEMS, METRIC_PATTERN, VERSION_PATTERN, around, wilson
from site_agent.inner_loop.seam import ScoredTasks
from site_agent.task_orders import Task

MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
_MAX_FILES: Final = 1000
_STDERR: Final = "_stderr"
_PROPORTIONS: Final = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em"})
"""Means of zeros and ones: their interval is Wilson's; that of other metrics follows from their standard error."""


class ResultsError(ConfigError):
    """The command left no results, or something else. Says nothing that it wrote."""


def read_results(directory: Path, tasks: Sequence[Task]) -> ScoredTasks:
    """Scores of these tasks from the newest `*.json` below a directory; what is missing is a problem of that task.

    Raises:
        ResultsError: there is none, or it is no such file.
    """
    raw = _parsed(_newest(directory))
    scores: list[TaskScore] = []
    problems: list[str] = []
    for task in tasks:
        found, why = _of_task(raw, task)
        scores += found
        problems += [f"{task.name} {task.language}: {reason}" for reason in why]
    return ScoredTasks(scores=tuple(scores), problems=tuple(problems))


def _newest(directory: Path) -> Path:
    """The harness puts its file into a directory named after the model, with the time in its name."""
    found = [path for _, path in zip(range(_MAX_FILES), _files(directory), strict=False)]
    if not found:
        raise ResultsError("expected the command to leave results (a .json file) in its output directory, found none")
    return max(found, key=lambda path: (path.lstat().st_mtime_ns, path.name))


def _files(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*.json"):
        if path.is_file() and not path.is_symlink():
            yield path


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ResultsError(f"results: expected a file that can be read, found: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_RESULT_BYTES:
            raise ResultsError(f"results: expected a plain file of at most {MAX_RESULT_BYTES} bytes, found another")
        data = file.read(MAX_RESULT_BYTES)
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        raise ResultsError("results: expected JSON, found something else") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("results"), dict):
        raise ResultsError("results: expected an object with results, found something else")
    return raw


def _of_task(raw: Mapping[str, Any], task: Task) -> tuple[list[TaskScore], list[str]]:
    """Its scores, and why there are no others."""
    metrics = _below(raw, "results", task.harness_task)
    if not isinstance(metrics, dict):
        return [], ["the command left no results of it"]
    num_items, version = _num_items(raw, task), _version(raw, task)
    if not num_items:
        return [], ["expected the number of its items (n-samples), found none"]
    if not version:
        return [], ["expected its version, found none; site.toml may state one"]
    whole = TaskScore(
        task=task.name,
        language=task.language,
        task_version=version,
        metric="",
        num_items=num_items,
        score=0.0,
        low=0.0,
        high=0.0,
    )
    by_key = {key: score for key in metrics if (score := _score(metrics, key, task, whole)) is not None}
    scores, found = list(by_key.values()), {key.partition(",")[0] for key in by_key}
    problems = [f"the command left no {metric} with a standard error" for metric in task.metrics if metric not in found]
    return scores, problems if scores or problems else ["the command left no metric with a standard error"]


def _score(metrics: Mapping[str, Any], key: str, task: Task, whole: TaskScore) -> TaskScore | None:
    """The figure under a key such as "acc,none", None if it is not wanted, or no score."""
    metric, _, rest = key.partition(",")
    if metric.endswith(_STDERR) or (task.metrics and metric not in task.metrics):
        return None
    value, error = metrics[key], metrics.get(f"{metric}{_STDERR},{rest}" if rest else f"{metric}{_STDERR}")
    interval = _interval(metric, value, error, whole.num_items)
    name = metric if rest in ("", "none") else f"{metric}.{rest}"
    if interval is None or not re.fullmatch(METRIC_PATTERN, name, re.ASCII):
        return None
    return replace(whole, metric=name, score=float(value), low=interval[0], high=interval[1])


def _interval(metric: str, value: Any, error: Any, num_items: int) -> tuple[float, float] | None:
    if not _is_number(value):
        return None
    if metric in _PROPORTIONS and 0 <= value <= 1:
        return wilson(value * num_items, num_items)
    if _is_number(error) and error >= 0:
        return around(value, error)
    return None


def _num_items(raw: Mapping[str, Any], task: Task) -> int:
    """As scored ("effective"), 0 where that is not told."""
    found = _below(raw, "n-samples", task.harness_task)
    value = found.get("effective", found.get("original")) if isinstance(found, dict) else found
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MAX_ITEMS:
        return 0
    return value


def _version(raw: Mapping[str, Any], task: Task) -> str:
    """The task's, with the number of examples shown before each item: scores of another number are another task's."""
    if task.version:
        return task.version
    found, shots = _below(raw, "versions", task.harness_task), _below(raw, "n-shot", task.harness_task)
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return ""
    version = f"{found}+{shots}shot" if isinstance(shots, int) and not isinstance(shots, bool) else str(found)
    return version if re.fullmatch(VERSION_PATTERN, version, re.ASCII) else ""


def _below(raw: Mapping[str, Any], part: str, name: str) -> Any:
    found = raw.get(part)
    return found.get(name) if isinstance(found, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and isfinite(value)
