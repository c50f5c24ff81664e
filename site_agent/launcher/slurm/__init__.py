# SPDX-License-Identifier: Apache-2.0
"""Jobs under Slurm: batch scripts, the four commands, and answers that never guess."""
