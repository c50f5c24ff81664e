# SPDX-License-Identifier: Apache-2.0
"""Pages made once for everybody who looks at the same moment: two hundred viewers cost one rendering."""

import gzip
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from coordinator.dashboard.follower import Follower
from coordinator.dashboard.liveness import Liveness
from coordinator.dashboard.page import Page
from coordinator.dashboard.pages.request import Asked
from coordinator.dashboard.public_fields import PUBLIC_FIELDS
from coordinator.dashboard.render import render_main
from coordinator.dashboard.site_map import arranged, build
from coordinator.notices.memory import Told
from federation.durable import FileSystem
from federation.errors import UsageError

MAX_PAGES: Final = 256
MAX_FIGURES: Final = 64
PACKING: Final = 1
"""Level of compression: the next ones take twice as long for a tenth less."""

KEYS: Final[tuple[str, ...]] = ("run", "q", "sort", "order", "page", "chart")
"""Of a query, what pages heed."""

PUBLIC_PATH: Final = "/public"
_PUBLIC_ORDERS: Final = frozenset(
    {("order", "ascending"), ("order", "descending"), *(("sort", f"runs.{name}") for name in ("run", *PUBLIC_FIELDS))}
)

FRESH_SECONDS: Final = 5.0
"""A page is made anew after so long even if nothing was heard: open rounds grow in its timeline."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A rendered page. `number`: of the view that it shows."""

    page: Page
    main: str
    number: int
    made_at: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A chart's figures as JSON, and the same compressed, made from a rendered page."""

    of: Shown
    data: bytes
    packed: bytes


@dataclass
class Gallery:
    """Renders and remembers.

    Attributes:
        liveness, told: as looked at last; whoever owns the gallery renews them.
    """

    fs: FileSystem
    follower: Follower
    public: tuple[str, ...]
    liveness: Liveness
    told: tuple[Told, ...] = ()
    _shown: OrderedDict[tuple[str, bool], Shown] = field(default_factory=OrderedDict)
    _figures: OrderedDict[tuple[str, bool], Figures] = field(default_factory=OrderedDict)

    def asked(self, query: Mapping[str, str], auditor: bool, now: float, *, whole: bool = False) -> Asked:
        """What a page is made from, now."""
        return Asked(
            view=self.follower.view,
            liveness=self.liveness,
            now=now,
            fs=self.fs,
            auditor=auditor,
            query=query,
            public=self.public,
            told=self.told,
            whole=whole,
        )

    def page(self, address: str, auditor: bool, now: float, *, whole: bool = False) -> Page:
        """The page of an address with its query, not rendered. Raises as `site_map.build`."""
        path, query = split(address)
        return arranged(build(self.asked(query, auditor, now, whole=whole), path), query, whole=whole)

    def show(self, address: str, auditor: bool, now: float) -> Shown:
        """The rendered page, from memory where nothing has changed. Raises as `site_map.build`."""
        address = canonical(address)
        key = (address, auditor)
        found = self._shown.get(key)
        number = self.follower.view.number
        if found is None or found.number != number or not 0 <= now - found.made_at < FRESH_SECONDS:
            page = self.page(address, auditor, now)
            found = Shown(page=page, main=render_main(page), number=number, made_at=now)
            self._shown[key] = found
        self._shown.move_to_end(key)
        while len(self._shown) > MAX_PAGES:
            self._shown.popitem(last=False)
        return found

    def figures(self, address: str, auditor: bool, now: float) -> Figures | None:
        """The JSON of the chart that an address asks for, None if its page has no such chart. Raises as `show`.

        Everybody who has the page open fetches its charts again after each change: they are made once as well.
        """
        path, query = split(canonical(address))
        name = query.pop("chart", "")
        shown = self.show(f"{path}?{urlencode(query)}" if query else path, auditor, now)
        key = (f"{path}#{name}?{urlencode(query)}", auditor)
        found = self._figures.get(key)
        if found is None or found.of is not shown:
            chart = shown.page.chart(name)
            if chart is None:
                return None
            data = chart.as_json().encode()
            found = Figures(of=shown, data=data, packed=gzip.compress(data, PACKING, mtime=0))
            self._figures[key] = found
        self._figures.move_to_end(key)
        while len(self._figures) > MAX_FIGURES:
            self._figures.popitem(last=False)
        return found

    def forget(self) -> None:
        """Makes every page anew: something changed that no view says, such as the coordinator's liveness."""
        self._shown.clear()
        self._figures.clear()


def canonical(address: str) -> str:
    """An address without what no page heeds: whatever somebody adds to it, there is one page to be made of it.

    Of the public page, for which nobody needs a session, there are only so many as it has orders. Raises as `split`.
    """
    path, query = split(address)
    kept: dict[str, str] = {
        key: query[key] for key in KEYS if key in query and (path != PUBLIC_PATH or _is_public(key, query[key]))
    }
    return f"{path}?{urlencode(kept)}" if kept else path


def _is_public(key: str, value: str) -> bool:
    return (key, value) in _PUBLIC_ORDERS or key == "chart"


def split(address: str) -> tuple[str, dict[str, str]]:
    """Path and query; of a key that comes twice the last value counts. Raises UsageError: no address."""
    try:
        parts = urlsplit(address[:4000])
        return parts.path or "/", dict(parse_qsl(parts.query, max_num_fields=20))
    except ValueError:
        raise UsageError("There is no page of this address.") from None
