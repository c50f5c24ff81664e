# SPDX-License-Identifier: Apache-2.0
"""What `run list`, `run show` and `run watch` print in a terminal of 80 columns."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from federation.durations import count
from federation.errors import DeadlineExceededError

ENDED: Final = ("completed", "aborted")
NUM_ROUNDS_SHOWN: Final = 10
NUM_TASKS_SHOWN: Final = 20
NUM_DISAGREEMENTS_SHOWN: Final = 5
LAST_LOOKS: Final = 60
"""At a completed run whose last scores are still to come."""

Document = dict[str, Any]


def print_runs(document: Document) -> None:
    """One line a run."""
    table = Table(box=None)
    for name in ("run", "state", "commits", "sites", "why"):
        table.add_column(name)
    for run in document["runs"]:
        commits = f"{run['commits']}/{run['rounds']}"
        table.add_row(run["run"], run["state"], commits, ", ".join(run["sites"]), run["reason"])
    console = Console()
    console.print(table if document["runs"] else "No runs yet. `coordinator run create run.toml --init DIR` makes one.")


def print_run(document: Document) -> None:
    """State, sites, newest rounds and scores."""
    Console().print(_render(document))


def watch_run(look: Callable[[], Document], rest: Callable[[], None], as_json: bool) -> None:
    """Looks again and again until the run ended.

    Args:
        look: fetches the run's document.
        rest: waits until the next look.
        as_json: print one document a line instead of a live view; without a terminal, a sentence a change.
    """
    if as_json:
        document = look()
        print(json.dumps(document), flush=True)
        while document["state"] not in ENDED:
            rest()
            document = look()
            print(json.dumps(document), flush=True)
        return
    console = Console()
    if console.is_terminal:
        first = look()
        with Live(_render(first), console=console, refresh_per_second=4) as live:
            for document, trouble in _looks(first, look, rest):
                shown = _render(document)
                live.update(Group(shown, Text(trouble, style="red")) if trouble else shown)
        return
    _watch_lines(look, rest)


def _looks(
    document: Document, look: Callable[[], Document], rest: Callable[[], None]
) -> Iterator[tuple[Document, str]]:
    """What is seen until the run is over, with what hindered the newest look."""
    patience = LAST_LOOKS
    while not _is_over(document) and patience:
        patience -= document["state"] in ENDED
        rest()
        trouble = ""
        try:
            document = look()
        except DeadlineExceededError as error:
            trouble = error.diagnostics()
        yield document, trouble


def _watch_lines(look: Callable[[], Document], rest: Callable[[], None]) -> None:
    """A line per change, at once, for files and pipes; the whole picture at the end."""
    document = first = look()
    before = _sentence(document)
    print(before, flush=True)
    for document, trouble in _looks(first, look, rest):
        now = trouble.replace("\n", " ") or _sentence(document)
        if now != before:
            print(now, flush=True)
            before = now
    print_run(document)


def _sentence(document: Document) -> str:
    """What matters of a run in one line; steps and losses, which change all the time, are left out."""
    parts = [_head(document)]
    if document["reason"]:
        parts.append(document["reason"])
    for found in document["round_log"][-1:]:
        verdicts = ", ".join(f"{site} {_verdict(verdict)}" for site, verdict in found["verdicts"].items())
        parts.append(f"round {found['round']} {found['state']}" + (f" ({verdicts})" if verdicts else ""))
    for site, seen in document["sites_now"].items():
        parts.append(f"{site} {seen['phase'] if seen['state'] == 'active' else seen['state']}")
    return "; ".join(parts)


def _is_over(document: Document) -> bool:
    """Ended, and of a completed run every site has scored the final model."""
    if document["state"] != "completed":
        return document["state"] in ENDED
    scored = {e["site"] for e in document["evaluations"] if e["commits"] == document["commits"]}
    return scored >= set(document["sites"])


def _head(document: Document) -> str:
    committed = f"{document['commits']}/{count(document['rounds'], 'round')} committed"
    return f"{document['run']}  {document['state'].upper()}  {committed}"


def _render(document: Document) -> Group:
    head, ledger = _head(document), document["ledger"]
    tail = f"ledger: {count(ledger['size'], 'leaf', 'leaves')}, root {ledger['root'][:16]}"
    parts: list[Any] = [Text(head, style="bold")]
    if document["reason"]:
        parts.append(Text(document["reason"], style="red"))
    if waits := document.get("suggested_starts"):  # an older coordinator says nothing of it
        parts.append(Text(waits))
    parts += [_sites(document), _rounds(document)]
    scores = _scores(document)
    if scores is not None:
        parts.append(scores)
    tasks = _tasks(document)
    if tasks is not None:
        parts.append(tasks)
    parts += [Text(f"sites disagree: {found}", style="yellow") for found in _disagreements(document)]
    if document["missed"]:
        parts.append(Text(f"missed: {_missed(document['missed'])}", style="yellow"))
    return Group(*parts, Text(tail, style="dim"))


def _missed(missed: Document) -> str:
    return "; ".join(f"{site}: " + ", ".join(f"{w} x{n}" for w, n in why.items()) for site, why in missed.items())


def _sites(document: Document) -> Table:
    table = Table(box=None)
    for name in ("site", "answer", "allocation", "phase", "round", "step", "loss"):
        table.add_column(name)
    for name, site in document["sites_now"].items():
        answer = document["answers"].get(name)
        word = "none yet" if answer is None else "accepted" if answer["accepted"] else f"declined: {answer['reason']}"
        loss = f"{site['loss']:.3f}" if site["loss"] else ""
        number = "" if site["round"] is None else str(site["round"])
        allocation = site["allocation"] if site["state"] == "active" else site["state"]
        table.add_row(name, word, allocation, site["phase"], number, str(site["step"]), loss)
    return table


def _rounds(document: Document) -> Table:
    table = Table(box=None)
    for name in ("round", "fragment", "state", "verdicts", "bytes up", "bytes down"):
        table.add_column(name)
    for found in document["round_log"][-NUM_ROUNDS_SHOWN:]:
        verdicts = ", ".join(f"{s} {_verdict(v)}" for s, v in found["verdicts"].items())
        up, down = str(found["payload_bytes"]), str(found["blob_bytes"])
        table.add_row(str(found["round"]), str(found["fragment"]), found["state"], verdicts, up, down)
    return table


def _verdict(verdict: Document) -> str:
    return "ok" if verdict["outcome"] == "admitted" else f"{verdict['outcome']} ({verdict['reason']})"


def _scores(document: Document) -> Table | None:
    """Bits per byte per language, of the first and of the newest model that was scored and is not reverted."""
    by_commits: dict[int, dict[str, float]] = {}
    for evaluation in document["evaluations"]:
        if evaluation["bits_per_byte"] and evaluation["commits"] <= document["commits"]:
            by_commits.setdefault(evaluation["commits"], {}).update(evaluation["bits_per_byte"])
    if not by_commits:
        return None
    languages = sorted({language for scores in by_commits.values() for language in scores})
    table = Table(box=None)
    table.add_column("bits per byte")
    for language in languages:
        table.add_column(language, justify="right")
    for commits in sorted({min(by_commits), max(by_commits)}):
        scores = by_commits[commits]
        table.add_row(f"at commit {commits}", *(f"{scores[lang]:.2f}" if lang in scores else "" for lang in languages))
    return table


def _tasks(document: Document) -> Table | None:
    """Scores of benchmark tasks: per site those of the newest model that it scored and that is not reverted."""
    newest: dict[str, Document] = {}
    for evaluation in document.get("tasks", ()):  # an older coordinator says nothing of them
        before = newest.get(evaluation["site"])
        if evaluation["commits"] <= document["commits"] and (not before or evaluation["commits"] >= before["commits"]):
            newest[evaluation["site"]] = evaluation
    if not newest:
        return None
    table = Table(box=None)
    for name in ("task", "language", "metric", "site", "score", "95% interval", "at commit"):
        table.add_column(name)
    rows = ((score, site, found["commits"]) for site, found in sorted(newest.items()) for score in found["scores"])
    ordered = sorted(rows, key=lambda row: (row[0]["task"], row[0]["language"], row[0]["metric"], row[1]))
    for score, site, commits in ordered[:NUM_TASKS_SHOWN]:
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        names = (score["task"], score["language"], score["metric"])
        table.add_row(*names, site, f"{score['score']:.3f}", interval, str(commits))
    if len(ordered) > NUM_TASKS_SHOWN:
        table.add_row(f"{len(ordered) - NUM_TASKS_SHOWN} more: --json")
    return table


def _disagreements(document: Document) -> list[str]:
    found = document.get("disagreements", [])
    more = len(found) - NUM_DISAGREEMENTS_SHOWN
    return [*found[:NUM_DISAGREEMENTS_SHOWN], *([f"in {count(more, 'further case')}: --json"] if more > 0 else [])]
