# SPDX-License-Identifier: Apache-2.0
"""Names of the files through which an agent and its jobs talk; `site_agent.jobs` says what is in them."""

from dataclasses import dataclass
from typing import Final

from federation.durable.api import FileSystem

LAST_WORD_FILE: Final = "ended.txt"
"""Name of a job's last word as text, inside its allocation directory."""


def _below(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


@dataclass(frozen=True)
class RunPaths:
    """Names inside one run's directory; `base` is that directory, "" if the file system's root is it."""

    base: str = ""

    @property
    def manifest(self) -> str:
        """The run's manifest, exact bytes (`federation.wire.manifest_from_bytes`)."""
        return _below(self.base, "manifest.bin")

    @property
    def training(self) -> str:
        """Directory of training checkpoints."""
        return _below(self.base, "training")

    @property
    def outcomes(self) -> str:
        """Directory of `OutcomeFile`s."""
        return _below(self.base, "outcomes")

    @property
    def snapshots(self) -> str:
        """Directory of the agent's notes about snapshots."""
        return _below(self.base, "snapshots")

    @property
    def metrics(self) -> str:
        """JSON lines, one per inner step and one per round event."""
        return _below(self.base, "metrics.jsonl")

    @property
    def tasks(self) -> str:
        """Directory of what scoring benchmark tasks needs meanwhile."""
        return _below(self.base, "tasks")

    @property
    def task_attempts(self) -> str:
        """`TaskAttempts`."""
        return f"{self.tasks}/attempts.json"

    def outcome(self, round_number: int) -> str:
        """`OutcomeFile` of one round."""
        return f"{self.outcomes}/{round_number}.json"

    def snapshot(self, fragment: int) -> str:
        """Which blob is the fragment's snapshot."""
        return f"{self.snapshots}/{fragment}.json"


@dataclass(frozen=True)
class AllocationPaths:
    """Names inside one allocation's directory; `base` is that directory, "" if the file system's root is it."""

    base: str = ""

    @property
    def order(self) -> str:
        """`WorkOrder`."""
        return _below(self.base, "order.json")

    @property
    def rounds(self) -> str:
        """Directory of `RoundOrder`s."""
        return _below(self.base, "rounds")

    @property
    def evaluations(self) -> str:
        """Directory of `EvaluationOrder`s and their results."""
        return _below(self.base, "evaluations")

    @property
    def tasks(self) -> str:
        """Directory of `EvaluationOrder`s for benchmark tasks, and their results."""
        return _below(self.base, "tasks")

    @property
    def updates(self) -> str:
        """Directory of payloads and `UpdateFile`s."""
        return _below(self.base, "updates")

    @property
    def stop(self) -> str:
        """`StopOrder`."""
        return _below(self.base, "stop.json")

    @property
    def claim(self) -> str:
        """Directory that the one execution of this allocation makes (invariant I5)."""
        return _below(self.base, "claim")

    @property
    def owner(self) -> str:
        """`Claim` of that execution."""
        return f"{self.claim}/owner.json"

    @property
    def closed(self) -> str:
        """Marker of the agent: nothing may start or go on under this allocation any more."""
        return f"{self.claim}/closed"

    @property
    def report(self) -> str:
        """`JobReport`, overwritten."""
        return _below(self.base, "report.json")

    @property
    def ended(self) -> str:
        """`JobEnded`."""
        return _below(self.base, "ended.json")

    @property
    def last_word(self) -> str:
        """The same as one line of text, which the batch script puts at the end of the job's log."""
        return _below(self.base, LAST_WORD_FILE)

    def round_order(self, round_number: int) -> str:
        """`RoundOrder` of one round."""
        return f"{self.rounds}/{round_number}.json"

    def update(self, round_number: int) -> str:
        """`UpdateFile` of one round; written after its payload."""
        return f"{self.updates}/{round_number}.json"

    def payload(self, round_number: int) -> str:
        """Encoded pseudo-gradient of one round."""
        return f"{self.updates}/{round_number}.payload"

    def evaluation(self, evaluation_id: int) -> str:
        """`EvaluationOrder`."""
        return f"{self.evaluations}/{evaluation_id}.json"

    def evaluation_result(self, evaluation_id: int) -> str:
        """`EvaluationFile`."""
        return f"{self.evaluations}/{evaluation_id}.result.json"

    def task_order(self, number: int) -> str:
        """`EvaluationOrder` for benchmark tasks."""
        return f"{self.tasks}/{number}.json"

    def task_result(self, number: int) -> str:
        """`TaskFile`."""
        return f"{self.tasks}/{number}.result.json"


def numbered(fs: FileSystem, directory: str, suffix: str = ".json") -> list[int]:
    """Numbers n of the files `<n><suffix>` in a directory, ascending; other names are left out."""
    stems = (name.removesuffix(suffix) for name in fs.list(directory) if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())
