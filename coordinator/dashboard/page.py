# SPDX-License-Identifier: Apache-2.0
"""A page as data: figures, tables and charts in sections. One template shows them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coordinator.dashboard.charts import Chart
from coordinator.dashboard.tables import Kind, Link, Table, Value


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure with its name; `tone` is "good", "warn" or "bad" where it means something, and never alone."""

    title: str
    value: Value | Link
    kind: Kind = Kind.TEXT
    tone: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A sentence that somebody has to read; `advice` says what to do."""

    tone: str
    text: str
    advice: str = ""
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Key figures side by side."""

    items: tuple[Figure, ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Links:
    """Ways to other pages."""

    items: tuple[Link, ...]
    title: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """A field that asks this page again with `q`."""

    title: str
    value: str


Section: TypeAlias = Figures | Table | Chart | Links | Search


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page.

    Attributes:
        path: where it is, without a query.
        nav: the entry of the navigation that is current.
        pages: of how many pages of rows this shows `number` (from 0), 0 where it has none.
        query: what was asked for besides, kept in links to other pages of rows.
    """

    title: str
    path: str
    nav: str
    notices: tuple[Notice, ...] = ()
    sections: tuple[Section, ...] = ()
    trail: tuple[Link, ...] = ()
    pages: int = 0
    number: int = 0
    query: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str) -> Table | None:
        """A table, or the table of a chart."""
        for section in self.sections:
            if isinstance(section, Table) and section.id == name:
                return section
            if isinstance(section, Chart) and section.id == name:
                return section.table()
        return None

    def chart(self, name: str) -> Chart | None:
        """A chart."""
        return next((s for s in self.sections if isinstance(s, Chart) and s.id == name), None)
