# SPDX-License-Identifier: Apache-2.0
"""`federation.bench.shaped_link` as a process beside a benchmark: counts what passes, as fast as it goes or slower."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from federation.errors import JobFailedError

MODULE: Final = "federation.bench.shaped_link"
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Bytes that have passed: up from whoever dials, down to them."""

    up: int
    down: int

    def __sub__(self, other: "Carried") -> "Carried":
        return Carried(up=self.up - other.up, down=self.down - other.down)


class CountedLink:
    """Dial `address` instead of `target` (both HOST:PORT)."""

    def __init__(self, target: str, environment: Mapping[str, str], *options: str) -> None:
        argv = [sys.executable, "-P", "-m", MODULE, target, *options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=dict(environment), text=True)
        self.address = f"127.0.0.1:{self._line()}"

    def carried(self) -> Carried:
        """Everything up to now, on all connections."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Carried(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise JobFailedError(f"{MODULE}: expected it to run, found that it ended with {self._process.wait()}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends with its standard input
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
