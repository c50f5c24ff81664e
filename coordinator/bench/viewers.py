# SPDX-License-Identifier: Apache-2.0
"""What a running dashboard costs, and how soon it tells its viewers. `federation bench dashboard` starts this.

    python -m coordinator.bench.viewers DIR --pid DASHBOARD --viewers 200 --seconds 120
    python -m coordinator.bench.viewers DIR --pid DASHBOARD --viewers 200 --as OPERATOR --run RUN   # until SIGTERM

The first form needs a generated directory, lets it go on, and looks for as long as it was told. The second one only
looks at somebody else's rounds. Both print one JSON document at their end; a line `looking` says that all have come in.
"""

import argparse
import asyncio
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from coordinator.bench.directory import consortium_of
from coordinator.bench.generated import SETTING_FILE
from coordinator.bench.setting import OPERATORS, RUN, Setting
from coordinator.bench.viewing import Arrival, Connection, Received, Target, Viewer
from coordinator.dashboard.identity import CERTIFICATE
from coordinator.dashboard.links import ADDRESS
from coordinator.home import LEDGER, load_rosters
from coordinator.operator_client import OPERATOR_ID, load_operator_key
from federation.bench.anonymous import rollup_bytes
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DeadlineExceededError, FederationError
from federation.ledger.followed import FollowedLog
from federation.wire import leaf_from_bytes

TOGETHER: Final = 20
"""Viewers that come in at the same time."""

PATIENCE_SECONDS: Final = 300.0
NOBODY_SECONDS: Final = 300.0
"""At most, without viewers."""

WARM_SAMPLES: Final = 5
MEMORY_SAMPLES: Final = 30
SETTLE_SECONDS: Final = 3.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_WRITER: Final = "coordinator.bench.generated"


@dataclass(kw_only=True)
class Usage:
    """Processor seconds and memory of the dashboard and of its viewers, from one moment to another."""

    pid: int
    began: float = field(default_factory=time.monotonic)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._theirs, self._own = processor_seconds(self.pid), time.process_time()

    async def watch(self, seconds: float, stop: asyncio.Event) -> dict[str, Any]:
        """The figures, once the time is over or `stop` is set."""
        self._sample()
        finite = isfinite(seconds)
        for _ in range(MEMORY_SAMPLES if finite else sys.maxsize):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds / MEMORY_SAMPLES if finite else PATIENCE_SECONDS)
            self._sample()
            if stop.is_set():
                break
        passed = time.monotonic() - self.began
        return {
            "seconds": passed,
            "dashboard_cores": (processor_seconds(self.pid) - self._theirs) / passed,
            "viewers_cores": (time.process_time() - self._own) / passed,
            "anonymous_bytes_at_start": self.memory[0][1],
            "anonymous_bytes_at_end": self.memory[-1][1],
            "anonymous_bytes_per_hour": slope(self.memory) * 3600,
        }

    def _sample(self) -> None:
        self.memory.append((time.monotonic(), rollup_bytes(self.pid)))


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def slope(samples: Sequence[tuple[float, int]]) -> float:
    """Least squares, per second; 0 for samples of one moment."""
    times, values = [at for at, _ in samples], [value for _, value in samples]
    return statistics.linear_regression(times, values).slope if len(set(times)) > 1 else 0.0


def latencies(arrivals: Sequence[Arrival], at: Sequence[float], first: int) -> list[float]:
    """Per viewer and view that brought new leaves, seconds from the oldest of these to the frame.

    The overview names the ledger's size with each view's number; all pages of one push are of the same view.

    Args:
        at: unix seconds of the leaves from index `first` on.
    """
    sizes = {a.number: a.num_leaves for a in arrivals if a.num_leaves}
    numbers = sorted(sizes)
    before = {number: sizes[numbers[max(0, i - 1)]] for i, number in enumerate(numbers)}
    found: dict[tuple[str, int], float] = {}
    for arrival in arrivals:
        number = arrival.number
        oldest = before.get(number, -1) - first
        if 0 <= oldest < len(at) and sizes[number] > before[number]:
            found.setdefault((arrival.viewer, number), arrival.at - at[oldest])
    return list(found.values())


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, 99th percentile and largest; None of none."""
    if not values:
        return {"median": None, "p99": None, "largest": None, "num_samples": 0}
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"median": statistics.median(ordered), "p99": p99, "largest": ordered[-1], "num_samples": len(ordered)}


def target_of(directory: Path, operator_dir: Path | None) -> Target:
    """The dashboard that runs on a directory, and whose key opens it.

    Raises:
        ConfigError: no dashboard runs there, or nobody's key is known.
    """
    fs = RealFileSystem(directory)
    roster = load_rosters(fs, time.time_ns() // 1000).current
    if operator_dir is not None:
        own = RealFileSystem(operator_dir)
        operator, key = own.read(OPERATOR_ID).decode().strip(), load_operator_key(own)
    elif fs.exists(SETTING_FILE):
        kept = json.loads(fs.read(SETTING_FILE))["setting"]
        setting = Setting(**kept | {"languages": tuple(kept["languages"])})
        operator = OPERATORS[0]
        key = consortium_of(setting).key(f"operator/{operator}")
    else:
        raise ConfigError("expected a generated directory or --as, found neither")
    parts = urlsplit(fs.read(ADDRESS).decode().strip())
    return Target(
        host=parts.hostname or "",
        port=parts.port or 0,
        context=ssl.create_default_context(cafile=directory / CERTIFICATE),
        consortium=roster.consortium,
        operator=operator,
        key=key,
    )


def source_of(index: int) -> str:
    """The loopback address of the index-th viewer; index below 50,000."""
    return f"127.0.{1 + index // 200}.{1 + index % 200}"


def page_of(index: int, run: str) -> str:
    """Half of the viewers look at the overview, a quarter at the run, a quarter at languages."""
    return ("/", f"/run/{run}", "/", "/languages")[index % 4]


def pages_of(run: str) -> tuple[str, ...]:
    """Addresses that are measured."""
    base = f"/run/{run}"
    return ("/", base, f"{base}/rounds", f"{base}/missing", "/sites", "/languages", "/ledger")


async def pages(target: Target, run: str) -> dict[str, Any]:
    """Each page as nobody has asked for it yet, and again; from the request to the last byte of the answer."""
    connection = await Connection.open(target, source_of(40_000), Received())
    try:
        await connection.enter(target.token())
        return {address: await _page(connection, address) for address in pages_of(run)}
    finally:
        connection.close()


async def _page(connection: Connection, address: str) -> dict[str, Any]:
    seconds, size = [], 0
    for _ in range(1 + WARM_SAMPLES):
        began = time.perf_counter()
        size = len(await connection.get(address))
        seconds.append(time.perf_counter() - began)
    return {"bytes": size, "cold_seconds": seconds[0], "warm_seconds": statistics.median(seconds[1:])}


@dataclass(kw_only=True)
class Watching:
    """One measurement with viewers."""

    directory: Path
    pid: int
    target: Target
    run: str
    num_viewers: int
    received: Received = field(default_factory=Received)

    async def look(self, seconds: float, stop: asyncio.Event) -> dict[str, Any]:
        """Lets everybody in, waits until that has settled, measures."""
        async with self._everybody():
            await asyncio.sleep(SETTLE_SECONDS)
            print("looking", flush=True)
            before = self.received.num_bytes, self.received.num_charts
            self.received.arrivals.clear()
            found = await Usage(pid=self.pid).watch(seconds, stop)
        passed = found["seconds"]
        found["bytes_per_second"] = (self.received.num_bytes - before[0]) / passed
        found["charts_per_second"] = (self.received.num_charts - before[1]) / passed
        found["frames_per_second"] = len(self.received.arrivals) / passed
        return found

    @asynccontextmanager
    async def _everybody(self) -> AsyncIterator[None]:
        room = asyncio.Semaphore(TOGETHER)
        tasks = []
        try:
            for index in range(self.num_viewers):
                await room.acquire()
                viewer = Viewer(
                    target=self.target,
                    source=source_of(index),
                    address=page_of(index, self.run),
                    received=self.received,
                )
                tasks.append(asyncio.create_task(viewer.look(room.release)))
            for _ in range(TOGETHER):
                await asyncio.wait_for(room.acquire(), PATIENCE_SECONDS)
            yield
            for task in tasks:
                if task.done():
                    task.result()  # who was turned out says why
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def followed(directory: Path) -> FollowedLog:
    """The ledger of a directory, read to its end."""
    fs = RealFileSystem(directory)
    rosters = load_rosters(fs, time.time_ns() // 1000)
    entry = rosters.current.coordinator
    if entry is None:
        raise ConfigError("the roster names no coordinator")
    log = FollowedLog(
        fs, LEDGER, origin=entry.ledger_origin, public=entry.ledger_public, witness_publics=rosters.witness_publics
    )
    log.refresh()
    return log


@asynccontextmanager
async def written(directory: Path, every: float) -> AsyncIterator[None]:
    """Another process lets a generated directory go on, a batch of leaves each so many seconds.

    Raises:
        DeadlineExceededError: it did not begin.
    """
    argv = [sys.executable, "-P", "-m", _WRITER, str(directory), "--then", str(10**9), "--every", str(every)]
    writer = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        if not await asyncio.wait_for(writer.stdout.readline(), PATIENCE_SECONDS):
            raise DeadlineExceededError(f"{directory}: expected it to go on, found that its writer has ended")
        yield
    finally:
        with suppress(ProcessLookupError):
            writer.send_signal(signal.SIGINT)
        await writer.wait()


async def measure(given: argparse.Namespace, stop: asyncio.Event) -> dict[str, Any]:
    """The document that docs/benchmarks.md describes."""
    target = target_of(given.directory, given.operator)
    watching = Watching(
        directory=given.directory, pid=given.pid, target=target, run=given.run, num_viewers=given.viewers
    )
    if given.seconds is None:
        return {"viewers": await watching.look(float("inf"), stop)}
    found: dict[str, Any] = {"pages": await pages(target, given.run)}
    log = followed(given.directory)
    async with written(given.directory, given.every):
        found["nobody"] = await Usage(pid=given.pid).watch(min(given.seconds / 4, NOBODY_SECONDS), stop)
        found["viewers"] = await watching.look(given.seconds, stop)
    first = log.size
    at = [leaf_from_bytes(data).at_us / 1e6 for data in log.refresh()]
    arrivals = watching.received.arrivals
    found["leaves_per_second"] = len(at) / (at[-1] - at[0]) if len(at) > 1 and at[-1] > at[0] else 0.0
    found["update_seconds"] = spread(latencies(arrivals, at, first))
    return found


async def _main(given: argparse.Namespace) -> dict[str, Any]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await measure(given, stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m coordinator.bench.viewers", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="a coordinator's, on which a dashboard runs")
    parser.add_argument("--pid", type=int, required=True, help="the dashboard's process")
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=None, help="default: until SIGTERM, and nothing is generated")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two batches of leaves")
    parser.add_argument("--run", default=RUN)
    parser.add_argument("--as", dest="operator", type=Path, default=None, help="directory of who signs the links")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The process's exit status."""
    try:
        found = asyncio.run(_main(_parser().parse_args(arguments)))
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
