# SPDX-License-Identifier: Apache-2.0
"""Sums over a run's whole life, kept as leaves come: a page of a thousand rounds must not count them all again."""

from dataclasses import dataclass, field

from federation import leaves as lv


@dataclass(kw_only=True, slots=True)
class SiteTally:
    """One site in one run. Tokens and bytes are of admitted updates."""

    admitted: int = 0
    not_admitted: int = 0
    tokens: int = 0
    payload_bytes: int = 0


@dataclass(kw_only=True)
class RunTally:
    """One run.

    Attributes:
        norms, cosines: per site and round, as its commit says.
        blob_bytes: of all commits, one copy each.
    """

    sites: dict[str, SiteTally] = field(default_factory=dict)
    norms: dict[str, dict[int, float]] = field(default_factory=dict)
    cosines: dict[str, dict[int, float]] = field(default_factory=dict)
    blob_bytes: int = 0

    @property
    def tokens(self) -> int:
        """New tokens of all admitted updates."""
        return sum(tally.tokens for tally in self.sites.values())

    @property
    def payload_bytes(self) -> int:
        """Bytes of all admitted payloads."""
        return sum(tally.payload_bytes for tally in self.sites.values())

    @property
    def not_admitted(self) -> int:
        """Parts of invited sites that ended without an admitted update."""
        return sum(tally.not_admitted for tally in self.sites.values())

    def site(self, name: str) -> SiteTally:
        """One site's, all 0 if nothing was decided on it yet."""
        return self.sites.get(name) or SiteTally()


@dataclass(kw_only=True)
class Tallies:
    """By run."""

    runs: dict[str, RunTally] = field(default_factory=dict)

    def of(self, run: str) -> RunTally:
        """One run's."""
        return self.runs.get(run) or RunTally()

    def verdict(self, verdict: lv.VerdictV1) -> None:
        """Takes in a verdict that stands."""
        sites = self.runs.setdefault(verdict.run, RunTally()).sites
        tally = sites.setdefault(verdict.site, SiteTally())
        if verdict.outcome is lv.Outcome.ADMITTED:
            tally.admitted += 1
            tally.tokens += verdict.new_tokens
            tally.payload_bytes += verdict.payload_bytes
        else:
            tally.not_admitted += 1

    def commit(self, commit: lv.RoundCommittedV1) -> None:
        """Takes in a commit."""
        tally = self.runs.setdefault(commit.run, RunTally())
        tally.blob_bytes += commit.blob_bytes
        for found in commit.contributions:
            tally.norms.setdefault(found.site, {})[commit.round] = found.norm
            tally.cosines.setdefault(found.site, {})[commit.round] = found.cosine
