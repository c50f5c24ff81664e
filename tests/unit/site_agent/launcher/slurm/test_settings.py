# SPDX-License-Identifier: Apache-2.0
"""`[slurm]` takes no value that could become another option, another command or a variable of the batch system."""

import pytest
from pydantic import ValidationError

from site_agent.launcher.slurm.settings import SlurmSection


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("partition", "p; rm -rf /", "a word without spaces, quotes and shell signs"),
        ("account", 'a"', "a word without spaces"),
        ("options", ("--dependency=none",), "an option that the launcher does not set itself, so not --dependency"),
        ("options", ("--requeue",), "so not --requeue"),
        ("options", ("-p x",), "a long option of sbatch"),
        ("options", ("--constraint=$(id)",), "a long option of sbatch"),
        ("environment", {"SLURM_CONF": "x"}, "a variable that is not the batch system's"),
        ("environment", {"lower": "x"}, "a variable's name in capitals"),
        ("environment", {"X": "two\nlines"}, "one line of printable text"),
        ("memory", "lots", "a size as sbatch takes it"),
        ("python", "python3", "an absolute path"),
        ("modules", ("a b",), "a word without spaces"),
    ],
)
def test_a_value_that_could_mean_more_is_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        SlurmSection.model_validate({key: value})


def test_ranks_follow_from_gpus_unless_they_are_said() -> None:
    assert SlurmSection().num_ranks == 1
    assert SlurmSection(nodes=2, gpus_per_node=8).num_ranks == 16
    assert SlurmSection(nodes=2, gpus_per_node=8, ranks_per_node=1).num_ranks == 2
    assert SlurmSection(nodes=2, gpus_per_node=8).num_gpus == 16
