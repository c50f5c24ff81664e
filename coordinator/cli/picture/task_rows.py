# SPDX-License-Identifier: Apache-2.0
"""Scores of benchmark tasks, and where sites disagree on one model."""

from typing import Any, Final

from rich.text import Text

from coordinator.cli.picture.words import Document
from federation.cli.lines import clip, first_lines, wrapped
from federation.durations import count

NUM_TASKS: Final = 20
NUM_DISAGREEMENTS: Final = 5


def task_lines(document: Document, width: int) -> list[Text]:
    """Per site the scores of the newest model that it scored and that is not reverted; nothing without tasks."""
    rows = _newest(document)
    lines = [Text(clip("benchmark tasks (95 % interval)", width), style="bold")] if rows else []
    for score, site, commits in rows[:NUM_TASKS]:
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        names = f"{score['task']} {score['language']} {score['metric']}"
        text = f"{names}: {score['score']:.3f} ({interval}), {site}, {count(commits, 'commit')}"
        lines += first_lines(wrapped(text, width, indent=2), 2)
    if len(rows) > NUM_TASKS:
        lines.append(Text(clip(f"  {len(rows) - NUM_TASKS} more: --json", width)))
    return lines


def disagreement_lines(document: Document, width: int) -> list[Text]:
    """Where sites disagree, in sentences."""
    found = document.get("disagreements", [])
    lines = [line for text in found[:NUM_DISAGREEMENTS] for line in wrapped(f"! sites disagree: {text}", width)]
    more = len(found) - NUM_DISAGREEMENTS
    return [*lines, *([Text(clip(f"! in {count(more, 'further case')}: --json", width))] if more > 0 else [])]


def _newest(document: Document) -> list[tuple[Any, str, int]]:
    newest: dict[str, Document] = {}
    for evaluation in document.get("tasks", ()):  # an older coordinator says nothing of them
        before = newest.get(evaluation["site"])
        if evaluation["commits"] <= document["commits"] and (not before or evaluation["commits"] >= before["commits"]):
            newest[evaluation["site"]] = evaluation
    rows = [(score, site, found["commits"]) for site, found in newest.items() for score in found["scores"]]
    return sorted(rows, key=lambda row: (row[0]["task"], row[0]["language"], row[0]["metric"], row[1]))
