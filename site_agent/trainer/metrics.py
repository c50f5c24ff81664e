# SPDX-License-Identifier: Apache-2.0
"""Step metrics as JSON lines. A resumed job repeats steps: for each `num_steps` the last line counts."""

import json
from collections.abc import Iterator
from typing import Any

from federation.durable.api import FileSystem
from federation.errors import ObjectNotFoundError


class MetricsLog:
    """Appends lines; they are durable after `sync`, which costs too much for every step."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        torn = _ends_torn(fs, path)
        self._file = fs.appender(path)
        if torn:
            self._file.append(b"\n")

    def write(self, **values: Any) -> None:
        """One line: numbers and short strings."""
        self._file.append(json.dumps(values, sort_keys=True, allow_nan=False).encode() + b"\n")

    def sync(self) -> None:
        """Makes the lines so far durable."""
        self._file.sync()


def read_metrics(data: bytes) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file; one that a crash tore is left out."""
    for line in data.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield values


def _ends_torn(fs: FileSystem, path: str) -> bool:
    try:
        size = fs.size(path)
    except ObjectNotFoundError:
        return False
    return size > 0 and fs.read_range(path, size - 1, 1) != b"\n"
