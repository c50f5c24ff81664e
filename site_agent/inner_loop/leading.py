# SPDX-License-Identifier: Apache-2.0
"""Rank 0 of a job of several ranks: the inner loop of any job, whose every act the other ranks are told first."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from federation.codecs.api import ByteVector
from federation.errors import FederationError
from site_agent.inner_loop.commands import BEAT_SECONDS, Act, Command, announce, announce_failure
from site_agent.inner_loop.encoding import Sink
from site_agent.inner_loop.exchange import Parts
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.owned_exchange import OwnedExchange
from site_agent.inner_loop.patience import Clock
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.team import RankLostError, Team
from site_agent.jobs import ChainLink, JobEnded, OutcomeFile


class LeadingExchange(OwnedExchange):
    """What the inner loop on rank 0 calls; it happens on all ranks."""

    def begin(self) -> None:
        """As `Exchange.begin`."""
        announce(self._team, Command(act=Act.BEGIN))
        super().begin()

    def encode(self, round_number: int, fragment: int, sink: Sink = lambda part: None) -> tuple[ByteVector, str]:
        """As `Exchange.encode`."""
        announce(self._team, Command(act=Act.ENCODE, round=round_number, fragment=fragment))
        return super().encode(round_number, fragment, sink)

    def resend(self, round_number: int, sink: Sink) -> None:
        """As `Exchange.resend`."""
        announce(self._team, Command(act=Act.RESEND, round=round_number))
        super().resend(round_number, sink)

    def merge(self, entry: InFlight, outcome: OutcomeFile, chain: Callable[[], Sequence[ChainLink]]) -> None:
        """As `Exchange.merge`."""
        announce(self._team, Command(act=Act.MERGE, entry=entry, outcome=outcome))
        super().merge(entry, outcome, chain)

    def adopt(self, entry: InFlight, outcome: OutcomeFile) -> None:
        """As `Exchange.adopt`."""
        announce(self._team, Command(act=Act.ADOPT, entry=entry, outcome=outcome))
        super().adopt(entry, outcome)

    def reload(self, chains: Sequence[Sequence[ChainLink]], *, forget_feedback: bool) -> None:
        """As `Exchange.reload`."""
        given = tuple(tuple(chain) for chain in chains)
        announce(self._team, Command(act=Act.RELOAD, chains=given, forget_feedback=forget_feedback))
        super().reload(chains, forget_feedback=forget_feedback)

    def lend(self, without: int = -1) -> Parts:
        """As `Exchange.lend`; the others lend and write theirs as well."""
        announce(self._team, Command(act=Act.SAVE, round=without))
        return super().lend(without)

    def restore(
        self, parts: Mapping[str, Mapping[str, torch.Tensor]], versions: Sequence[int], digests: Sequence[str]
    ) -> None:
        """As `Exchange.restore`; the others put back their trainers' state as well."""
        announce(self._team, Command(act=Act.RESTORE, versions=tuple(versions), digests=tuple(digests)))
        super().restore(parts, versions, digests)


class BeatingClock:
    """A clock that lets the other ranks know that rank 0 is alive: they wait for its commands and for nothing else.

    Belongs to the thread that trains, which looks at it only between two acts.
    """

    def __init__(self, clock: Clock, team: Team) -> None:
        self._clock, self._team = clock, team
        self._last = time.monotonic()
        self.is_followed = False

    def now(self) -> float:
        """Unix seconds."""
        self._beat()
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self._clock.sleep(seconds)
        self._beat()

    def _beat(self) -> None:
        if self.is_followed and time.monotonic() - self._last >= BEAT_SECONDS:
            announce(self._team, Command(act=Act.WAIT))
            self._last = time.monotonic()


class Leader:
    """The inner loop of a job of several ranks, with the calls of a loop of one.

    Attributes:
        ended: why it ended, None while it goes on.
    """

    def __init__(self, loop: InnerLoop, team: Team, clock: BeatingClock) -> None:
        self._loop, self._team, self._clock = loop, team, clock
        self._words: list[str] = []

    @property
    def ended(self) -> JobEnded | None:
        """Why the job ended."""
        return self._loop.ended

    @property
    def num_steps(self) -> int:
        """Inner steps that this site has taken in the run."""
        return self._loop.num_steps

    def begin(self, asked_to_end: Callable[[], str | None] = lambda: None) -> None:
        """As `InnerLoop.begin`; a word that any rank heard counts."""
        self._clock.is_followed = True
        with self._telling_failures():
            self._loop.begin(lambda: asked_to_end() or (self._words[0] if self._words else None))

    def prepare(self) -> float | None:
        """As `InnerLoop.prepare`; the others learn what it returns."""
        with self._telling_failures():
            rate = self._loop.prepare()
        if rate is None:
            self._clock.is_followed = False
            announce(self._team, Command(act=Act.END))
        else:
            announce(self._team, Command(act=Act.STEP, rate=rate, num_steps=self._loop.num_steps))
        return rate

    def complete(self, loss: float, tokens: int) -> None:
        """As `InnerLoop.complete`, with what this rank did of the step."""
        step = self._team.reduced(loss, tokens, None)
        self._words += step.words
        with self._telling_failures():
            self._loop.complete(step.loss, step.tokens)

    @contextmanager
    def _telling_failures(self) -> Iterator[None]:
        """The others wait for rank 0's next command; where there is none any more they hear why."""
        try:
            yield
        except RankLostError:
            raise
        except FederationError as error:
            self._clock.is_followed = False
            announce_failure(self._team, error)
            raise
