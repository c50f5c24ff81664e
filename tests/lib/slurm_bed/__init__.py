# SPDX-License-Identifier: Apache-2.0
"""A real Slurm for tests: one node, accounting, own ports, own keys; nothing of the machine's own Slurm is touched."""

from slurm_bed.bed import SlurmBed, SlurmBedError, slurm_bed, why_not

__all__ = ["SlurmBed", "SlurmBedError", "slurm_bed", "why_not"]
