# SPDX-License-Identifier: Apache-2.0
"""Which address shows which page: one table, for requests and for the stream of changes alike."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from coordinator.dashboard.page import Page
from coordinator.dashboard.pages.audit import audit_page
from coordinator.dashboard.pages.languages import languages_page
from coordinator.dashboard.pages.ledger import leaf_page, ledger_page
from coordinator.dashboard.pages.overview import overview
from coordinator.dashboard.pages.public import public_page
from coordinator.dashboard.pages.request import ROWS, Asked
from coordinator.dashboard.pages.round import round_page
from coordinator.dashboard.pages.run import missing_page, rounds_page, run_page
from coordinator.dashboard.pages.sites import site_page, sites_page
from coordinator.dashboard.tables import Table
from federation.errors import AccessDeniedError, UsageError

_NAME: Final = r"([^/]{1,100})"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One kind of page: its groups are the function's further arguments."""

    pattern: re.Pattern[str]
    build: Callable[..., Page]
    audit: bool = False
    public: bool = False


ENTRIES: Final = tuple(
    Entry(pattern=re.compile(pattern), build=build, audit=pattern == "/audit", public=pattern == "/public")
    for pattern, build in (
        ("/", overview),
        (f"/run/{_NAME}", run_page),
        (f"/run/{_NAME}/rounds", rounds_page),
        (f"/run/{_NAME}/missing", missing_page),
        (f"/run/{_NAME}/round/{_NAME}", round_page),
        ("/sites", sites_page),
        (f"/site/{_NAME}", site_page),
        ("/languages", languages_page),
        ("/ledger", ledger_page),
        (r"/ledger/([0-9]{1,11})", leaf_page),
        ("/audit", audit_page),
        ("/public", public_page),
    )
)


def entry_of(path: str) -> tuple[Entry, tuple[str, ...]]:
    """The entry of an address, and what stands in it. Raises UsageError: none."""
    for entry in ENTRIES:
        match = entry.pattern.fullmatch(path)
        if match is not None:
            return entry, match.groups()
    raise UsageError("There is no page of this address.")


def build(asked: Asked, path: str) -> Page:
    """The page of an address, in the order and part that the query asks for.

    Raises:
        UsageError: there is no such page, run, round, site or leaf.
        AccessDeniedError: it is for auditors.
    """
    entry, names = entry_of(path)
    if entry.audit and not asked.auditor:
        raise AccessDeniedError("This page is for auditors of the consortium.")
    return entry.build(asked, *names)


def arranged(page: Page, query: Mapping[str, str], *, whole: bool = False) -> Page:
    """Tables in the order that was asked for; of long ones the part that was asked for, unless `whole`."""
    name, _, column = query.get("sort", "").partition(".")
    descending = query.get("order", "") != "ascending"
    sections = []
    for section in page.sections:
        if isinstance(section, Table):
            if section.id == name:
                section = section.sorted(column, descending)
            if page.pages and not whole and len(section.rows) > ROWS:
                section = section.page(page.number, ROWS)
        sections.append(section)
    kept = {key: query[key] for key in ("sort", "order") if name and key in query}
    if page.number:
        kept["page"] = str(page.number)
    return replace(page, sections=tuple(sections), query={**page.query, **kept})
