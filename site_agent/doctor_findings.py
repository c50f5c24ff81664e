# SPDX-License-Identifier: Apache-2.0
"""What the report of a test job means for a site: one finding per question. Pure."""

from collections.abc import Callable, Iterator
from typing import Final

from federation.durations import count
from site_agent.doctor_case import Answer, Finding, Verdict
from site_agent.doctor_report import DoctorOrder, DoctorReport
from site_agent.preflight_report import preflight_line

MAX_CLOCK_SECONDS: Final = 60.0
"""A compute node's clock may be so far off: order and report lie in a window of the agent's own clock."""

_MAX_LINE: Final = 800


def _spool(report: DoctorReport, order: DoctorOrder, _seen_at: float) -> Answer:
    if report.nonce != order.nonce:
        advice = "Put the site's directory where login and compute nodes see the same files."
        return Verdict.FAILED, "the job read another order than the one written here", advice
    return Verdict.OK, "order and report are seen from both sides", ""


def _accelerator(report: DoctorReport, order: DoctorOrder, _seen_at: float) -> Answer:
    found = report.preflight
    if found is None or not found.ranks:
        advice = (
            "Install torch for this machine where slurm.python (or the container) is; load its driver's modules with "
            "slurm.modules; job.device must be what torch calls it."
        )
        return Verdict.FAILED, f"device {order.device}: {report.problem or 'no preflight'}", advice
    if not found.check_ok:
        advice = (
            "Look at driver and runtime; with several ranks at NCCL_SOCKET_IFNAME and its kind in [slurm.environment]."
        )
        return Verdict.FAILED, preflight_line(found), advice
    if order.device.startswith("cpu") and report.num_accelerators:
        advice = 'Set job.device = "cuda" in site.toml (ROCm is called cuda as well), unless jobs are to leave it idle.'
        words = f"{preflight_line(found)}; torch sees {count(report.num_accelerators, 'accelerator')} beside it"
        return Verdict.WARNING, words, advice
    return Verdict.OK, preflight_line(found), ""


def _golden(report: DoctorReport, _order: DoctorOrder, _seen_at: float) -> Answer:
    problems = [report.golden_problem] if report.golden_problem else list(_problems_of_ranks(report))
    if not problems:
        return Verdict.OK, f"all match, Python {report.python}", ""
    advice = "Jobs would refuse to train there: another node type, numpy or numba is needed."
    return Verdict.FAILED, "; ".join(problems)[:500], advice


def _problems_of_ranks(report: DoctorReport) -> Iterator[str]:
    ranks = report.preflight.ranks if report.preflight else ()
    return (f"rank {rank.rank} on {rank.host}: {rank.problem}" for rank in ranks if not rank.golden)


def _compiler(report: DoctorReport, _order: DoctorOrder, _seen_at: float) -> Answer:
    if report.compiler:
        return Verdict.OK, report.compiler, ""
    words = "none: numpy computes the same bits, several times more slowly"
    advice = "Install numba where jobs run, and leave NUMBA_DISABLE_JIT unset."
    return Verdict.WARNING, words, advice


def _data(report: DoctorReport, order: DoctorOrder, _seen_at: float) -> Answer:
    if report.unreadable:
        advice = (
            "Mount them on compute nodes, bind them into the container (slurm.container.binds), or correct site.toml."
        )
        return Verdict.FAILED, f"cannot be read: {', '.join(report.unreadable)}", advice
    return Verdict.OK, f"{count(len(order.data_paths), 'path')} can be read", ""


def _clock(report: DoctorReport, order: DoctorOrder, seen_at: float) -> Answer:
    off = min(report.at - order.ordered_at, 0.0) or max(report.at - seen_at, 0.0)
    if abs(off) > MAX_CLOCK_SECONDS:
        words = f"{report.host} is at least {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine"
        advice = "Tell the centre: one of both clocks is wrong; a job's own bounds rest on its node's."
        return Verdict.WARNING, words, advice
    return Verdict.OK, "the node's clock fits this machine's", ""


CHECKS: Final[dict[str, Callable[[DoctorReport, DoctorOrder, float], Answer]]] = {
    "spool there": _spool,
    "accelerator there": _accelerator,
    "golden vectors there": _golden,
    "compiler there": _compiler,
    "data there": _data,
    "clock there": _clock,
}


def findings_of(report: DoctorReport, order: DoctorOrder, seen_at: float) -> list[Finding]:
    """All of them.

    Args:
        seen_at: when the report was found, by the agent's clock, seconds since 1970.
    """
    answers = ((name, check(report, order, seen_at)) for name, check in CHECKS.items())
    return [Finding(check=name, verdict=v, found=_line(found), advice=advice) for name, (v, found, advice) in answers]


def _line(text: str) -> str:
    """One printable line: torch's errors have many."""
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_LINE]
