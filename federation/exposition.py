# SPDX-License-Identifier: Apache-2.0
"""Metrics as values, and their exposition for Prometheus: text, or OpenMetrics where a scraper asks for it.

A role declares its metrics once, in a catalogue, and projects its state to samples of them; both are plain values, so
that rules, dashboards and pages can be compared with what is really exported. Nothing here is registered globally.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import metrics_core
from prometheus_client.exposition import choose_encoder

MAX_LABEL_CHARS: Final = 80
"""Of a label's value that somebody else chose."""

_UNITS: Final = ("seconds", "bytes", "ratio")


class Kind(StrEnum):
    """What a metric's value may do: a gauge anything, a counter only grow, an info is always 1."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric family.

    Attributes:
        name: as queries have it: in base units, `_total` at the end of a counter, `_info` of an info.
        labels: names, in the order in which `Metric.of` takes their values.
        help: one sentence.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def unit(self) -> str:
        """The base unit that its name states, "" for a count or a ratio without one."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in _UNITS if stem.endswith(f"_{unit}")), "")

    def of(self, value: float, *labels: str) -> "Sample":
        """A sample with the labels' values in their order."""
        return Sample(metric=self, value=value, labels=labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One value of a metric."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exposition:
    """What a scraper gets."""

    body: bytes
    content_type: str


def gauge(name: str, text: str, *labels: str) -> Metric:
    """Declares a gauge."""
    return Metric(name=name, kind=Kind.GAUGE, labels=labels, help=text)


def counter(name: str, text: str, *labels: str) -> Metric:
    """Declares a counter; its name ends in `_total`."""
    return Metric(name=name, kind=Kind.COUNTER, labels=labels, help=text)


def info(name: str, text: str, *labels: str) -> Metric:
    """Declares an info, whose labels are what it says; its name ends in `_info`."""
    return Metric(name=name, kind=Kind.INFO, labels=labels, help=text)


def declared(names: Mapping[str, object]) -> tuple[Metric, ...]:
    """The metrics among a catalogue's names (`globals()`), in the order of their definition."""
    return tuple(value for value in names.values() if isinstance(value, Metric))


def foreign(text: str) -> str:
    """A label's value that a peer chose: bounded, and without what does not print."""
    return "".join(char for char in text[:MAX_LABEL_CHARS] if char.isprintable())


def exposition(samples: Iterable[Sample], accept: str = "") -> Exposition:
    """The samples as text, their families in the order of their first sample.

    Args:
        samples: at most one for each metric and labels.
        accept: the scraper's Accept header; "" for the text format 0.0.4, which the textfile collector reads.

    Raises:
        ValueError: a sample has another number of labels than its metric.
    """
    encode, content_type = choose_encoder(accept)
    return Exposition(body=encode(_Families(samples)), content_type=content_type)


class _Families:
    """Samples as a collector of the client library."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._families: dict[str, metrics_core.Metric] = {}
        for sample in samples:
            self._add(sample)

    def collect(self) -> Iterable[metrics_core.Metric]:
        """All families."""
        return self._families.values()

    def _add(self, sample: Sample) -> None:
        metric = sample.metric
        family = self._families.get(metric.name)
        if family is None:
            stem = metric.name.removesuffix("_total").removesuffix("_info")
            family = metrics_core.Metric(stem, metric.help, metric.kind.value, metric.unit)
            self._families[metric.name] = family
        family.add_sample(metric.name, dict(zip(metric.labels, sample.labels, strict=True)), sample.value)
