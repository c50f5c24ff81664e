# SPDX-License-Identifier: Apache-2.0
"""Step metrics that sites signed, kept beside the ledger in a bounded store: two files a site, the older is dropped."""

import json
from dataclasses import dataclass, field
from typing import Final

from federation.durable import FileSystem
from federation.messages import Telemetry

MAX_FILE_BYTES: Final = 4 * 1024 * 1024


@dataclass
class TelemetryStore:
    """Appends JSON lines per site; losing some is no loss of evidence, so nothing is fsynced."""

    fs: FileSystem
    _sizes: dict[str, int] = field(default_factory=dict)

    def add(self, site: str, telemetry: Telemetry) -> None:
        """Keeps the lines of one message."""
        path = f"telemetry/{site}.jsonl"
        size = self._sizes.get(site)
        if size is None:
            size = self.fs.size(path) if self.fs.exists(path) else 0
        data = "".join(_with_run(line, telemetry.run) + "\n" for line in telemetry.lines).encode()
        if size + len(data) > MAX_FILE_BYTES and size:
            self.fs.rename(path, f"telemetry/{site}.1.jsonl")
            size = 0
        appender = self.fs.appender(path)
        appender.append(data)
        appender.close()
        self._sizes[site] = size + len(data)


def _with_run(line: str, run: str) -> str:
    """The line of one run's figures with the run last, where it wins over what the line itself may call so."""
    clean = line.replace("\n", " ").strip()
    return f'{clean[:-1]}, "run": {json.dumps(run)}}}' if clean.startswith('{"') and clean.endswith("}") else clean
