# SPDX-License-Identifier: Apache-2.0
"""A real federation whose jobs a bed runs, and what it must leave behind, whatever was done to it.

All sites are required and no bound is near, so a run that was disturbed must end with the theta of an undisturbed one
(invariant I6); and whatever was killed, of one allocation there is one execution (invariant I5).
"""

from collections import Counter
from typing import Final

from federation_processes import SITES, ProcessFederation, Setting
from slurm_bed import SlurmBed

from federation.durable.real import RealFileSystem
from site_agent.identity import job_tag, load_identity
from site_agent.inner_loop.last_word import EXIT_FENCED

SETTING: Final = Setting(num_rounds=12)
FAST: Final = {"poll_seconds": "0.3"}
"""Lines of a site's `[slurm]`."""


def assert_same_bits_and_single_executions(
    federation: ProcessFederation, slurm: SlurmBed, undisturbed: tuple[str, ...]
) -> None:
    """Ends the federation and looks at what it left."""
    federation.stop()
    assert federation.outcome().theta == undisturbed
    for site in SITES:
        started = Counter(name for name, state, code in jobs_of(federation, slurm, site) if trained(state, code))
        assert set(started.values()) <= {1}, f"{site}: an allocation was executed twice: {started}"


def trained(state: str, exit_code: str) -> bool:
    """Whether a job got further than the claim."""
    return exit_code != f"{EXIT_FENCED}:0" and not (state.startswith("CANCELLED") and exit_code == "0:0")


def jobs_of(federation: ProcessFederation, slurm: SlurmBed, site: str) -> list[tuple[str, str, str]]:
    """Name, state and exit code of every job of a site's allocations, held control job left out."""
    tag = job_tag(load_identity(RealFileSystem(federation.site(site)), site))
    rows = slurm.accounted("--allocations", fields="JobName%200,State,ExitCode")
    return [(name, state, code) for name, state, code in rows if name.endswith(tag) and "-control-" not in name]


def running_job(federation: ProcessFederation, slurm: SlurmBed) -> str:
    """Id of alpha's job, once it runs."""
    found = federation.wait_for(lambda: handle_of(federation), "a handle of alpha's job")
    slurm.wait_for(lambda: slurm.state(found) == "RUNNING", 30, "a running job of alpha's")
    assert commits(federation) < SETTING.num_rounds, "what comes now is no disturbance"
    return str(found)


def handle_of(federation: ProcessFederation) -> str:
    """Id of alpha's job that did not end yet, "" if there is none."""
    view = federation.view("alpha")
    return view.allocation.handle.rpartition(":")[2] if view and view.allocation.state != "ended" else ""


def commits(federation: ProcessFederation) -> int:
    """How many alpha's agent knows of."""
    view = federation.view("alpha")
    return view.num_commits if view else 0
