# SPDX-License-Identifier: Apache-2.0
"""What sites scored in a run, as tables: bits per byte and benchmark tasks. Pure.

Rows are made as leaves pass by; which of them are of a model that a rollback has made void is known at the end.
"""

from dataclasses import dataclass, field
from math import isfinite

from coordinator.run_columns import Table, countable, empty_table
from federation import leaves as lv
from federation.ledger_state import Run

Versions = tuple[int, ...]
_REVERTED = "reverted"


@dataclass
class EvaluationTables:
    """The tables `scores` and `tasks`, and per row the versions of the model that was evaluated."""

    scores: Table = field(default_factory=lambda: empty_table("scores"))
    tasks: Table = field(default_factory=lambda: empty_table("tasks"))
    _models: dict[str, list[Versions]] = field(default_factory=lambda: {"scores": [], "tasks": []})

    def scored(self, body: lv.EvaluationRecordedV1, at_us: int) -> None:
        """One site's bits per byte."""
        for score in body.scores:
            bits = score.bits_per_byte if isfinite(score.bits_per_byte) else None
            self.scores.add(
                body.num_commits,
                score.language,
                body.site,
                body.request or None,
                bits,
                countable(score.num_bytes),
                at_us,
                False,
            )
            self._models["scores"].append(body.versions)

    def tasks_scored(self, body: lv.TasksEvaluatedV1, at_us: int) -> None:
        """One site's benchmark tasks."""
        for score in body.scores:
            self.tasks.add(
                body.num_commits,
                score.task,
                score.language,
                body.site,
                body.request or None,
                score.task_version,
                score.metric,
                score.num_items,
                score.score,
                score.low,
                score.high,
                at_us,
                False,
            )
            self._models["tasks"].append(body.versions)

    def finish(self, run: Run) -> tuple[Table, Table]:
        """Both tables, with what the whole ledger says of the models."""
        for table in (self.scores, self.tasks):
            models = self._models[table.name]
            is_void = {versions: run.is_void(versions) for versions in set(models)}
            table.column(_REVERTED)[:] = [is_void[versions] for versions in models]
        return self.scores, self.tasks
