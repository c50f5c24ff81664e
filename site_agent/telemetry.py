# SPDX-License-Identifier: Apache-2.0
"""Sends known figures of jobs' step metrics, bounded: they may be lost or come twice, but never fill disk or link."""

from typing import Final

from federation.durable.api import FileSystem
from federation.egress import check_outgoing
from federation.egress_words import metric_line
from federation.mailbox.mailbox import Mailbox
from federation.messages import Telemetry
from site_agent import layout
from site_agent.agent_state import AgentState, Allocation

INTERVAL_US: Final = 5 * 1_000_000
MAX_LINES: Final = 256
MAX_LINE_CHARS: Final = 500
MAX_READ_BYTES: Final = 64 * 1024
MAX_UNACKNOWLEDGED: Final = 200
"""With so many messages on their way the courier is slow or gone, and metrics are skipped."""


class TelemetrySender:
    """Follows the metrics file of each run with a live allocation, from where it ends when the agent first sees it."""

    def __init__(self, fs: FileSystem, mailbox: Mailbox) -> None:
        self._fs, self._mailbox = fs, mailbox
        self._offsets: dict[str, int] = {}
        self._next_us = 0

    def send(self, state: AgentState, now_us: int) -> None:
        """Posts new lines of every run, at most once in five seconds."""
        if now_us < self._next_us:
            return
        self._next_us = now_us + INTERVAL_US
        for run in state.allocations:
            live = state.live_allocation(run)
            if live is not None:
                self._send_run(live)

    def _send_run(self, live: Allocation) -> None:
        path = layout.run_paths(live.run).metrics
        size = self._fs.size(path) if self._fs.exists(path) else 0
        offset = self._offsets.setdefault(live.run, size)
        if size < offset:  # rewritten
            offset = 0
        data = self._fs.read_range(path, offset, MAX_READ_BYTES) if size > offset else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[live.run] = offset + (len(whole) or (len(data) if len(data) == MAX_READ_BYTES else 0))
        newest = whole.decode(errors="replace").splitlines()[-MAX_LINES:]
        lines = tuple(metric for line in newest if len(line) <= MAX_LINE_CHARS and (metric := metric_line(line)))
        if lines and len(self._mailbox.outstanding) < MAX_UNACKNOWLEDGED:
            body = Telemetry(run=live.run, allocation=live.id, lines=lines)
            check_outgoing(body)
            self._mailbox.post(body)
