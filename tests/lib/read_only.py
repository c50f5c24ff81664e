# SPDX-License-Identifier: Apache-2.0
"""A file system for code that must only read: it notes what is read, and whatever would write is a bug."""

from collections.abc import Callable
from typing import Any

READS = {"read", "read_range", "map_file", "forget_pages", "size", "exists", "list", "fingerprint"}
"""Methods of a `FileSystem` that change nothing."""


class ReadOnly:
    """Stands in a `FileSystem`'s place.

    Attributes:
        opened: paths whose content was asked for.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self.opened: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in READS:
            raise AssertionError(f"expected to be read only, found {name}")
        method = getattr(self._fs, name)

        def noted(path: str, *arguments: Any, **named: Any) -> Any:
            if name in ("read", "read_range", "map_file"):
                self.opened.add(path)
            return method(path, *arguments, **named)

        return noted
