# SPDX-License-Identifier: Apache-2.0
"""The dictionary of a run's tables: every column with its kind, unit and meaning. It travels with each export."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MAX_COUNT: Final = 2**63

Value = str | int | float | bool | None
"""One cell. None: there is no such thing, or nobody knows it; never 0."""


class Kind(StrEnum):
    """What a column holds, besides None."""

    TEXT = "text"
    COUNT = "count"
    """A whole number below 2^63."""

    FIGURE = "figure"
    """A finite number, fp64."""

    FLAG = "flag"
    TIME = "time"
    """Whole microseconds since 1970, UTC; written as ISO 8601 or as a timestamp."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. `unit`: "" for none."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, column by column.

    Attributes:
        meaning: what one row is.
        values: per column all its cells, each list as long as the others.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    values: tuple[list[Any], ...]

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.values[0])

    def column(self, name: str) -> list[Any]:
        """All cells of a column. Raises KeyError."""
        for column, values in zip(self.columns, self.values, strict=True):
            if column.name == name:
                return values
        raise KeyError(name)

    def add(self, *cells: Value) -> None:
        """Appends one row, its cells in the order of the columns."""
        for values, cell in zip(self.values, cells, strict=True):
            values.append(cell)


def countable(number: int) -> int | None:
    """A count that a column can hold; None for one that no column could: a site may sign any 64 bits."""
    return number if 0 <= number < MAX_COUNT else None


def _text(name: str, meaning: str) -> Column:
    return Column(name=name, kind=Kind.TEXT, meaning=meaning)


def _count(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name=name, kind=Kind.COUNT, meaning=meaning, unit=unit)


def _figure(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name=name, kind=Kind.FIGURE, meaning=meaning, unit=unit)


def _flag(name: str, meaning: str) -> Column:
    return Column(name=name, kind=Kind.FLAG, meaning=meaning)


def _time(name: str, meaning: str) -> Column:
    return Column(name=name, kind=Kind.TIME, meaning=meaning, unit="UTC")


_ROUND: Final = _count("round", "number of the round, from 0; never used twice")
_SITE: Final = _text("site", "id of the site")
_COMMITS: Final = _count("commits", "commits in the model that was evaluated", "commits")
_LANGUAGE: Final = _text("language", "code of the language as the site gave it")
_REQUEST: Final = _count("request", "number of the operator's request; none where the schedule asked")
_REVERTED: Final = _flag("reverted", "whether a rollback made that model void; another one has as many commits since")

ROUNDS: Final = (
    _ROUND,
    _count("fragment", "fragment of the model that the round is about, from 0"),
    _text("state", "open, sealed, committed or abandoned"),
    _flag("reverted", "whether a rollback made the round's commit void"),
    _time("opened_at", "when the coordinator opened the round"),
    _time("sealed_at", "when it froze the list of updates"),
    _time("ended_at", "when it committed or abandoned the round"),
    _count("lr_position", "place in the learning rate's schedule at which the window begins", "inner steps"),
    _figure("aggregate_norm", "Euclidean norm of the weighted mean of the pseudo-gradients"),
    _count("blob_bytes", "size of the commit that every site fetches", "bytes"),
    _count("payload_bytes", "size of all admitted payloads together", "bytes"),
    _count("num_invited", "sites that were invited"),
    _count("num_admitted", "sites whose update was admitted"),
    _text("reason", "code of why the round was abandoned"),
    _text("sentence", "the same in words with its arithmetic; of a round that was not abandoned, the seal's"),
)

UPDATES: Final = (
    _ROUND,
    _SITE,
    _text("outcome", "admitted, rejected, missed, declined, equivocation, or not-invited; none before the verdict"),
    _flag("stands", "whether this is the site's one row that counts; a late or second update's verdict does not"),
    _text("reason", "code of why the update was not admitted"),
    _text("sentence", "the same in words"),
    _time("at", "when the coordinator gave the verdict"),
    _figure("weight", "share of the update in the round's aggregate, fp32"),
    _count("weight_tokens", "tokens trained since the base, from which the weight may come", "tokens"),
    _count("new_tokens", "tokens of this window; each token counts once", "tokens"),
    _count("num_steps", "inner steps of this window", "inner steps"),
    _count("payload_bytes", "size of the payload", "bytes"),
    _figure("norm", "Euclidean norm of the decoded pseudo-gradient, as admission measured it"),
    _figure("cosine", "cosine of the decoded pseudo-gradient to the round's aggregate"),
    _text("allocation", "the site's allocation that was invited"),
)

SCORES: Final = (
    _COMMITS,
    _LANGUAGE,
    _SITE,
    _REQUEST,
    _figure("bits_per_byte", "loss on held-out text, lower is better", "bits per byte"),
    _count("num_bytes", "size of that text", "bytes"),
    _time("at", "when the coordinator recorded the evaluation"),
    _REVERTED,
)

TASKS: Final = (
    _COMMITS,
    _text("task", "name of the benchmark task"),
    _LANGUAGE,
    _SITE,
    _REQUEST,
    _text("version", "of the task's items and prompts; scores of two versions are never compared"),
    _text("metric", "such as acc or acc_norm"),
    _count("num_items", "items that were scored"),
    _figure("score", "of these items"),
    _figure("low", "lower end of its interval of 95%"),
    _figure("high", "upper end of its interval of 95%"),
    _time("at", "when the coordinator recorded the evaluation"),
    _REVERTED,
)

PHASES: Final = (
    _ROUND,
    _SITE,
    _time("invited_at", "when the coordinator invited the site; from then on it queued"),
    _time("answered_at", "when the coordinator first heard that the site knows of the round"),
    _time("training_at", "when it first heard that the site trains"),
    _time("uploading_at", "when it first heard that the site uploads"),
    _time("decided_at", "when it gave the verdict that stands; from then on the site waited"),
)

STEPS: Final = (
    _SITE,
    _ROUND,
    _count("step", "number of the inner step in its window, from 1", "inner steps"),
    _count("num_steps", "inner steps of the site's job by then, over all rounds", "inner steps"),
    _figure("loss", "training loss of the step as the site reports it", "nats per token"),
    _count("tokens", "tokens of the step", "tokens"),
    _figure("seconds", "how long the step took", "seconds"),
    _time("received_at", "when the coordinator received the report"),
)

SCHEMAS: Final = {
    "rounds": ("one round", ROUNDS),
    "updates": ("what became of one site's part in one round, or one further verdict on it", UPDATES),
    "scores": ("one site's score of one model in one language", SCORES),
    "tasks": ("one metric of one benchmark task that one site scored one model by", TASKS),
    "phases": ("one site's part in one round, as far as it was heard of; not in the ledger", PHASES),
    "steps": ("one inner step of one site, from telemetry: signed, bounded, not in the ledger", STEPS),
}
"""By table: what a row is, and its columns."""


def empty_table(name: str) -> Table:
    """A table without rows."""
    meaning, columns = SCHEMAS[name]
    return Table(name=name, meaning=meaning, columns=columns, values=tuple([] for _ in columns))


def dictionary() -> dict[str, Any]:
    """All tables and columns as a JSON document."""
    return {
        name: {
            "row": meaning,
            "columns": [{"name": c.name, "kind": c.kind.value, "unit": c.unit, "meaning": c.meaning} for c in columns],
        }
        for name, (meaning, columns) in SCHEMAS.items()
    }
