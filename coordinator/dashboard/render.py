# SPDX-License-Identifier: Apache-2.0
"""Pages as HTML. Everything is escaped by the template engine; nothing that a site says is ever markup."""

from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from coordinator.dashboard.charts import TABLE_ROWS, Chart
from coordinator.dashboard.links import Visitor
from coordinator.dashboard.page import Figures, Links, Page, Search
from coordinator.dashboard.tables import Column, Kind, Link, Table, plain
from federation.durations import in_words

MAX_TEXT: Final = 600
"""Characters of one text that are shown; the export has all."""

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
NAVIGATION: Final[tuple[tuple[str, str, str], ...]] = (
    ("overview", "Overview", "/"),
    ("sites", "Sites", "/sites"),
    ("languages", "Languages", "/languages"),
    ("ledger", "Ledger", "/ledger"),
    ("audit", "Audit", "/audit"),
)


@cache
def environment() -> Environment:
    """The one template environment."""
    made = Environment(
        loader=PackageLoader("coordinator.dashboard"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        show=show, kind_of=kind_of, chart_rows=TABLE_ROWS, link_with=link_with, aria_sort=aria_sort, plain=plain
    )
    return made


def render_main(page: Page) -> str:
    """What changes while a page is open."""
    return environment().get_template("main.html").render(page=page)


def render_page(page: Page, main: str, *, visitor: Visitor | None, consortium: str, number: int, public: bool) -> str:
    """A whole document."""
    navigation = [entry for entry in NAVIGATION if entry[0] != "audit" or (visitor is not None and visitor.is_auditor)]
    return (
        environment()
        .get_template("page.html")
        .render(
            page=page,
            main=Markup(main),
            visitor=visitor,
            consortium=consortium,
            number=number,
            navigation=() if public else navigation,
            public=public,
        )
    )


def render_message(template: str, **values: Any) -> str:
    """A page without figures: the door, an error."""
    return environment().get_template(template).render(**values)


def kind_of(section: object) -> str:
    """Which part of the template shows a section."""
    kinds = {Figures: "figures", Table: "table", Chart: "chart", Links: "links", Search: "search"}
    return kinds[type(section)]


def link_with(page: Page, /, **changes: object) -> str:
    """The page's address with its query, changed."""
    query = {**page.query, **{key: str(value) for key, value in changes.items()}}
    return f"{page.path}?{urlencode(query)}" if query else page.path


def aria_sort(table: Table, column: Column) -> str:
    """What a screen reader says of a column's order."""
    if table.sort != column.key:
        return "none"
    return "descending" if table.descending else "ascending"


def show(value: Any, column: Column | None = None, kind: Kind = Kind.TEXT) -> Markup:
    """One value for people; n/a where there is none. Times become local ones in the browser, with UTC on hover."""
    kind = column.kind if column is not None else kind
    digits = column.digits if column is not None else 3
    found = plain(value)
    if found is None:
        return Markup('<span class="na">n/a</span>')
    text = _shown(found, kind, digits)
    if isinstance(value, Link):
        return Markup('<a href="{}">{}</a>').format(value.href, text)
    return Markup(escape(text))


def _shown(value: Any, kind: Kind, digits: int) -> str | Markup:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return _text(str(value))
    match kind:
        case Kind.COUNT:
            return f"{value:,.0f}"
        case Kind.NUMBER:
            return _number(value, digits)
        case Kind.BYTES:
            return _bytes(value)
        case Kind.RATIO:
            return Markup('<meter min="0" max="1" value="{}" aria-hidden="true"></meter> {}').format(
                f"{value:.4f}", f"{value:.0%}"
            )
        case Kind.SECONDS:
            return _seconds(value)
        case Kind.TIME:
            return _time(value)
        case _:
            return str(value)


def _text(text: str) -> str | Markup:
    """Long texts are cut; the whole of a text of moderate length can be unfolded."""
    clean = "".join(c if c.isprintable() or c == " " else "�" for c in text[: MAX_TEXT + 1])
    return clean if len(text) <= MAX_TEXT else f"{clean[:MAX_TEXT]}… ({len(text)} characters)"


def _number(value: float, digits: int) -> str:
    """What would be rounded to 0 is shown by its first digit."""
    is_small = value != 0 and abs(value) < 0.5 * 10**-digits
    return f"{value:.0e}" if is_small else f"{value:,.{digits}f}"


def _bytes(value: float) -> str:
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def _seconds(value: float) -> str:
    if abs(value) < 1:
        return f"{value * 1000:.0f} ms" if abs(value) >= 0.0005 else "0 s" if value == 0 else "under 1 ms"
    if abs(value) < 10:
        return f"{value:.2g} s"
    return in_words(value) if value > 0 else f"-{in_words(-value)}"


def _time(seconds: float) -> str | Markup:
    try:
        found = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return "no time"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        found.isoformat(timespec="seconds"), f"{found:%Y-%m-%d %H:%M:%S} UTC", f"{found:%Y-%m-%d %H:%M} UTC"
    )
