# SPDX-License-Identifier: Apache-2.0
"""Instants of a process for measurements: where FEDERATION_TRACE names a file, each mark adds a line of JSON to it.

Off otherwise. Times are `time.monotonic()`, which all processes of one Linux machine share. Nothing is sent anywhere.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from federation.durable.api import Appender
from federation.durable.real import RealFileSystem

TRACE_VARIABLE: Final = "FEDERATION_TRACE"


class Trace:
    """A file of marks. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file: Appender = RealFileSystem(path.parent).appender(path.name)

    def mark(self, name: str, facts: dict[str, str | int | float]) -> None:
        """Adds a line. It is visible to others at once, and durable never."""
        line = json.dumps({"mark": name, "at": time.monotonic(), **facts})
        with self._lock:
            self._file.append(f"{line}\n".encode())


_trace = Trace(Path(os.environ[TRACE_VARIABLE])) if os.environ.get(TRACE_VARIABLE) else None


def mark(name: str, **facts: str | int | float) -> None:
    """This instant, if somebody measures."""
    if _trace is not None:
        _trace.mark(name, facts)


def read_marks(path: Path) -> Iterator[dict[str, Any]]:
    """What was marked in a file so far; a line that is still being written is left out."""
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)
