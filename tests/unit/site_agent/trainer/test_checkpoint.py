# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints: whole or not there, and the one before if the newest is damaged."""

from dataclasses import dataclass

import pytest
import torch

from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import CorruptObjectError
from site_agent.trainer.checkpoint import TrainingCheckpoints


@dataclass(frozen=True, kw_only=True)
class Record:
    step: int


def parts(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"local": {"0": torch.full((3,), value), "step": torch.tensor(value)}, "none": {}}


def saved(num: int) -> tuple[SimulatedFileSystem, TrainingCheckpoints]:
    fs = SimulatedFileSystem()
    checkpoints = TrainingCheckpoints(fs)
    for step in range(1, num + 1):
        checkpoints.save(Record(step=step), parts(step))
    return fs, checkpoints


def test_the_newest_comes_back_with_every_tensor() -> None:
    _, checkpoints = saved(3)
    loaded = checkpoints.load(Record)
    assert loaded is not None
    record, found = loaded
    assert record == Record(step=3)
    assert torch.equal(found["local"]["0"], torch.full((3,), 3.0))
    assert found["local"]["step"].shape == ()
    assert found["none"] == {}


def test_two_are_kept_and_none_is_none() -> None:
    fs, _ = saved(4)
    assert fs.list("training") == ["3", "4"]
    assert TrainingCheckpoints(SimulatedFileSystem()).load(Record) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest"])
def test_a_damaged_one_gives_way_to_the_one_before(damage: str) -> None:
    fs, checkpoints = saved(2)
    path = "training/2/manifest.json" if damage == "manifest" else "training/2/local.safetensors"
    data = fs.read(path)
    if damage == "remove":
        fs.remove(path)
    else:
        fs.write(path, data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    loaded = checkpoints.load(Record)
    assert loaded is not None
    assert loaded[0] == Record(step=1)


def test_if_all_are_damaged_nothing_is_made_up() -> None:
    fs, checkpoints = saved(1)
    fs.write("training/1/record.json", b"{}")
    with pytest.raises(CorruptObjectError, match="found 1 damaged ones") as caught:
        checkpoints.load(Record)
    assert "Remove this directory" in caught.value.diagnostics()


def test_a_crash_at_any_moment_leaves_the_old_or_the_new_one() -> None:
    seen = set()
    for after in range(1, 60):
        fs, checkpoints = saved(2)
        count = 0

        def crash(_step: str, _path: str, after: int = after) -> None:
            nonlocal count
            count += 1
            if count == after:
                raise SimulatedCrash

        fs.hook = crash
        try:
            checkpoints.save(Record(step=3), parts(3))
        except SimulatedCrash:
            pass
        else:
            break
        loaded = TrainingCheckpoints(fs.crash()).load(Record)
        assert loaded is not None
        record, found = loaded
        assert torch.equal(found["local"]["0"], torch.full((3,), float(record.step)))
        seen.add(record.step)
    assert seen == {2, 3}
