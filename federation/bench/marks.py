# SPDX-License-Identifier: Apache-2.0
"""Marks of running processes (`federation.trace`), read while they are written."""

import json
from pathlib import Path
from typing import Any, TypeAlias

Mark: TypeAlias = dict[str, Any]
"""`mark` (its name), `at` (seconds of `time.monotonic()`), and facts such as `round`."""


class Marks:
    """One file of marks; what was read once is kept."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._seen = path, 0, list[Mark]()

    def all(self) -> list[Mark]:
        """Every mark so far, in the order in which they were written."""
        if self._path.exists():
            with self._path.open("rb") as source:
                source.seek(self._offset)
                whole, _, _ = source.read().rpartition(b"\n")
            if whole:
                self._offset += len(whole) + 1
                self._seen += map(json.loads, whole.split(b"\n"))
        return self._seen

    def of(self, name: str) -> list[Mark]:
        """The marks of one name."""
        return [mark for mark in self.all() if mark["mark"] == name]

    def by_round(self, name: str, **facts: str) -> dict[int, Mark]:
        """The first mark of one name, and with these facts, in each round."""
        found: dict[int, Mark] = {}
        for mark in self.of(name):
            if facts.items() <= mark.items():
                found.setdefault(mark["round"], mark)
        return found
