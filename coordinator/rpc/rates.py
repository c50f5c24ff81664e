# SPDX-License-Identifier: Apache-2.0
"""How much one peer may do: token buckets whose time is an argument, and lines of the security log by the same rule."""

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from federation.log import line

MAX_PEERS: Final = 4096
"""Peers remembered at a time; the one not seen for longest is forgotten first."""

LINES_PER_SECOND: Final = 0.1
LINE_BURST: Final = 10.0


@dataclass(kw_only=True)
class TokenBucket:
    """Holds up to `burst` tokens and gets `per_second` new ones; starts full."""

    per_second: float
    burst: float
    _tokens: float = field(init=False)
    _at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, amount: float, now: float) -> float:
        """Takes tokens if they are there.

        Returns:
            0.0, or in how many seconds they will be there; then nothing was taken.
        """
        self._fill(now)
        if self._tokens >= amount:
            self._tokens -= amount
            return 0.0
        return (amount - self._tokens) / self.per_second

    def owe(self, amount: float, now: float) -> float:
        """Takes tokens, on credit if need be: what has been received already cannot be refused any more.

        Returns:
            In how many seconds the debt will be paid, 0.0 without one.
        """
        self._fill(now)
        self._tokens -= amount
        return self.debt_seconds(now)

    def debt_seconds(self, now: float) -> float:
        """In how many seconds the bucket will not be in debt any more."""
        self._fill(now)
        return max(0.0, -self._tokens / self.per_second)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_second)
            self._at = now


class Complaints:
    """Writes what peers did wrong to the security log: a bounded number of lines for each of a bounded number."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._silenced: dict[str, int] = {}

    def report(self, peer: str, method: str, error: Exception, now: float) -> None:
        """One refused call; beyond the peer's share it is only counted, and told with the next line."""
        bucket = self._buckets.setdefault(peer, TokenBucket(per_second=LINES_PER_SECOND, burst=LINE_BURST))
        self._buckets.move_to_end(peer)
        if bucket.take(1.0, now):
            self._silenced[peer] = self._silenced.get(peer, 0) + 1
            return
        more = self._silenced.pop(peer, 0)
        extra = {"more_before": more} if more else {}
        self._logger.warning(
            line("refused", peer=peer, method=method, error=type(error).__name__, text=f"{error}"[:300], **extra)
        )
        while len(self._buckets) > MAX_PEERS:
            self._silenced.pop(self._buckets.popitem(last=False)[0], None)
