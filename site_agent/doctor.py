# SPDX-License-Identifier: Apache-2.0
"""Looks at everything that a site needs, and says of each thing what was found and what to do. Submits nothing.

Every check is a function from a `Case` to a `Finding`; none raises. A check that needs something that is missing, and
that another check complains about, says so and counts as skipped. `doctor_ways` has those of what leads out and of the
file system, `doctor_slurm` those of the batch system; `doctor_job` asks a compute node.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.durations import in_words
from federation.errors import DeadlineExceededError, FederationError
from federation.rpc import credentials
from federation.rpc.credentials import RENEW_DAYS, Certificates
from federation.rpc.status import Greeting
from site_agent import doctor_slurm, doctor_ways
from site_agent.courier.choice import CourierKind, read_choice
from site_agent.doctor_case import Answer, Case, Check, Finding, Verdict, finding
from site_agent.identity import Listing, listing, load_identity
from site_agent.policy import load_policy
from site_agent.site_config import SiteConfig, load_site_config
from site_agent.views import read_view

MAX_CLOCK_SECONDS: Final = 60.0
"""Clocks further apart make certificates and messages look expired."""

MIN_FREE_BYTES: Final = 2 * 1024**3
NUMERICS_SECONDS: Final = 300.0
"""The first process on a machine compiles, which takes half a minute of a processor."""


def examine(directory: Path) -> list[Finding]:
    """All checks, in the order in which one makes sense of the next."""
    fs = RealFileSystem(directory)
    try:
        config, trouble = load_site_config(directory), None
    except FederationError as error:
        config, trouble = None, error
    case = Case(directory=directory, fs=fs, config=config, now=time.time(), probed=_probe(fs, config))
    first = finding("configuration", lambda _: _configured(case, trouble), case)
    checks = {**_CHECKS, **doctor_ways.CHECKS, **_NUMERICS}
    found = [finding(name, check, case) for name, check in checks.items()]
    return [first, *found, *doctor_slurm.examine_slurm(case)]


def _probe(fs: RealFileSystem, config: SiteConfig | None) -> Greeting | FederationError | None:
    try:
        if config is None or read_choice(fs) is not CourierKind.GRPC:
            return None
        from site_agent.courier import grpc

        return grpc.probe(fs, config)
    except FederationError as error:
        return error


def _configured(case: Case, trouble: FederationError | None) -> Answer:
    if trouble is not None or case.config is None:
        raise trouble or FederationError("no site.toml")
    load_policy(case.directory)
    load_identity(case.fs, case.config.site)
    return Verdict.OK, f"site {case.config.site}, keys and policy are readable", ""


def _roster(case: Case) -> Answer:
    rosters = credentials.require_rosters(case.fs, int(case.now * 1_000_000))
    roster = rosters.current
    days = (roster.expires_at_us / 1e6 - case.now) / 86_400
    found = f"version {roster.version} of consortium {roster.consortium}, {days:.0f} days left"
    if days <= 0:
        return Verdict.FAILED, found, "Ask the consortium's root key holders for a renewed roster."
    listed = Listing.MEMBER if case.config is None else listing(case.fs, case.config.site, roster)
    if listed is not Listing.MEMBER:
        advice = "Hand the site's request to the root key holders; the roster then comes by itself."
        what = "does not name this site yet" if listed is Listing.ABSENT else "names this site with other keys"
        return Verdict.WARNING, f"{found}; it {what}", advice
    return Verdict.OK, found, ""


def _courier(case: Case) -> Answer:
    if case.config is None:
        return Verdict.SKIPPED, "needs a readable configuration", ""
    if not case.uses_grpc:
        view = read_view(case.fs)
        if view is None or not view.heard_at_us:
            advice = "Is somebody carrying the spool, both ways? See `site-agent courier show`."
            return Verdict.WARNING, "spool; nothing was ever heard from the coordinator", advice
        ago = in_words(case.now - view.heard_at_us / 1e6)
        return Verdict.OK, f"spool; the coordinator was heard {ago} ago", ""
    greeting = _answered(case)
    found = f"grpc; {greeting.software or 'a coordinator'} answered in {greeting.round_trip_seconds * 1000:.0f} ms"
    return Verdict.OK, f"{found}, protocol {greeting.protocol_version}, ledger of {greeting.ledger_size} leaves", ""


def _clock(case: Case) -> Answer:
    if not case.uses_grpc or not isinstance(case.probed, Greeting):
        return Verdict.SKIPPED, "needs an answer of the coordinator over gRPC", ""
    ahead = case.probed.clock_ahead_seconds
    found = f"the coordinator's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > MAX_CLOCK_SECONDS:
        return Verdict.FAILED, found, "Set the clock that is wrong (NTP); certificates and messages depend on it."
    return Verdict.OK, found, ""


def _certificate(case: Case) -> Answer:
    days = Certificates.read(case.fs).days_left(case.now)
    if days is None:
        verdict = Verdict.FAILED if case.uses_grpc else Verdict.SKIPPED
        return verdict, "no channel certificate", "Run `site-agent enroll` with an invite." if case.uses_grpc else ""
    if days <= 0:
        advice = "A serving agent renews it once the coordinator can be reached; or run `site-agent enroll`."
        return Verdict.FAILED, f"expired {in_words(-days * 86_400)} ago", advice
    if days < RENEW_DAYS:
        advice = "It should have been renewed by now: see `site-agent status`, or run `site-agent enroll`."
        return Verdict.WARNING, f"{days:.1f} days left", advice
    return Verdict.OK, f"{days:.1f} days left", ""


def _disk(case: Case) -> Answer:
    free = case.fs.free_bytes()
    found = f"{free / 1024**3:.1f} GiB free for spool and state"
    if free < MIN_FREE_BYTES:
        return Verdict.FAILED, found, f"Make room: at least {MIN_FREE_BYTES / 1024**3:.0f} GiB, and a model's size."
    return Verdict.OK, found, ""


def _compiler(_: Case) -> Answer:
    """What compiles the arithmetic of jobs; without it they are slow, and nothing else says why."""
    done = _python("-c", "from federation.kernels.dispatch import compiler; print(compiler())")
    if done.returncode != 0:
        return Verdict.FAILED, _words(done), "Is hpc-federation installed as a whole?"
    if found := done.stdout.strip():
        return Verdict.OK, found, ""
    advice = "Install numba where jobs run, and leave NUMBA_DISABLE_JIT unset."
    return Verdict.WARNING, "none: numpy computes the same bits, several times more slowly", advice


def _vectors(_: Case) -> Answer:
    done = _python("-m", "federation.golden.check")
    if done.returncode == 0:
        return Verdict.OK, done.stdout.strip(), ""
    advice = (
        "This machine computes other bits than the federation: its jobs would refuse to join. Do not run them here."
    )
    return Verdict.FAILED, _words(done), advice


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A process of its own: numerics are loaded there, not in the agent."""
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=NUMERICS_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DeadlineExceededError(
            f"no result within {NUMERICS_SECONDS:.0f} s", advice="Is this machine overloaded?"
        ) from None


def _words(failed: "subprocess.CompletedProcess[str]") -> str:
    return (failed.stderr.strip() or f"exit code {failed.returncode}")[-500:]


def _answered(case: Case) -> Greeting:
    if isinstance(case.probed, Greeting):
        return case.probed
    raise case.probed or FederationError("expected an answer of the coordinator, found none")


_CHECKS: Final[dict[str, Check]] = {
    "roster": _roster,
    "certificate": _certificate,
    "courier": _courier,
    "clock": _clock,
    "disk": _disk,
}

_NUMERICS: Final[dict[str, Check]] = {
    "compiler": _compiler,
    "golden vectors": _vectors,
}
