# SPDX-License-Identifier: Apache-2.0
"""What sites of a generated consortium score in benchmark tasks: right answers of fixed items, the better the model."""

import math
from typing import Final

from coordinator.bench import hostile
from coordinator.bench.setting import Setting
from federation.leaves import TaskScore
from federation.task_scores import wilson

EVERY_COMMITS: Final = 25
NUM_SCORERS: Final = 4
NUM_LANGUAGES: Final = 8
_TASKS: Final = (("belebele", "0+0shot", 900, 0.25), ("xstorycloze", "1", 1511, 0.5))
"""Name, version, items, and what chance gets right."""


def scorers(setting: Setting) -> frozenset[str]:
    """Sites that score tasks."""
    return frozenset(sorted(setting.evaluators)[:NUM_SCORERS])


def site_tasks(setting: Setting, site: str, num_commits: int) -> tuple[TaskScore, ...]:
    """What one site measures: all agree but for a few items; the third is far off in the first language.

    In a hostile setting the last site that scores reports nonsense as well.
    """
    found = [
        _score(setting, site, num_commits, index, task, metric)
        for index in range(len(setting.languages[:NUM_LANGUAGES]))
        for task in range(len(_TASKS))
        for metric in ("acc", "acc_norm")
    ]
    if setting.hostile and site == max(scorers(setting)):
        found += hostile.task_scores()
    return tuple(found)


def _score(setting: Setting, site: str, num_commits: int, index: int, task: int, metric: str) -> TaskScore:
    (name, version, num_items, chance), language = _TASKS[task], setting.languages[index]
    best = setting.random("task", name, language, metric).uniform(0.45, 0.8)
    share = chance + max(0.0, best - chance) * (1 - math.exp(-num_commits / 180))
    if (setting.sites.index(site), index) == (2, 0):
        share *= 0.6
    few = setting.random("items", name, language, site, num_commits).randint(-2, 2)
    num_right = min(num_items, max(0, round(share * num_items) + few))
    low, high = wilson(num_right, num_items)
    return TaskScore(
        task=name,
        language=language,
        task_version=version,
        metric=metric,
        num_items=num_items,
        score=num_right / num_items,
        low=low,
        high=high,
    )
