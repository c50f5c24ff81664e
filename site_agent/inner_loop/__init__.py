# SPDX-License-Identifier: Apache-2.0
"""The protocol inside a training job. A torch program takes part through `join`; see `session` and `seam`."""

from site_agent.inner_loop.seam import Evaluator, Shard, StepResult, Trainer, TrainerState
from site_agent.inner_loop.session import Session, join

__all__ = ["Evaluator", "Session", "Shard", "StepResult", "Trainer", "TrainerState", "join"]
