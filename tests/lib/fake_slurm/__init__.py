# SPDX-License-Identifier: Apache-2.0
"""Commands that answer as Slurm's do, over a state directory that a test moves and breaks."""

from fake_slurm.driver import FakeSlurm
from fake_slurm.faults import Fault
from fake_slurm.store import Job

__all__ = ["FakeSlurm", "Fault", "Job"]
