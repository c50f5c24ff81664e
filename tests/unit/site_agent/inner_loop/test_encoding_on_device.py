# SPDX-License-Identifier: Apache-2.0
"""A job whose parameters lie on an accelerator encodes there, and publishes what it would have published anyway.

The accelerator is the CPU under Triton's interpreter, in a process of its own; a real one is used where there is one.
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from device_jobs import SHAPES, OneFragment, boundaries, refusal, whole_job

from site_agent.inner_loop import exchange, parameters
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.seam import Shard, whole

LIBRARY = Path(__file__).resolve().parents[3] / "lib"
JOBS = {"int4": 0.9, "int8": None, "sparse": 0.9, "flushing": 0.9, "broken": 0.9}

real_device = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no accelerator here: torch finds neither a CUDA nor a ROCm device"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("triton", reason="Triton is not installed")
    out = tmp_path_factory.mktemp("interpreted") / "results.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, LIBRARY / "interpreted_job.py", out], check=True, env=environment, timeout=280)
    results: dict[str, Any] = json.loads(out.read_text())
    return results


@pytest.mark.parametrize("name", JOBS)
def test_a_job_publishes_the_same_bytes(name: str, found: dict[str, Any], tmp_path: Path) -> None:
    codec = name if name in ("int8", "sparse") else "int4"
    expected = whole_job(tmp_path, codec, JOBS[name])
    assert found[name]["payloads"] == expected["oracle"]
    assert {key: found[name][key] for key in expected} == expected
    assert all(found[name]["payloads"])


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_every_payload_is_encoded_on_the_device_after_one_check(name: str, found: dict[str, Any]) -> None:
    assert (found[name]["num_checks"], found[name]["num_on_cpu"]) == (1, 0)
    assert found[name]["log"] == [f"INFO: {name} is encoded on cpu, which gives the CPU's bits"]


def test_local_values_stay_on_the_device(found: dict[str, Any]) -> None:
    assert found["boundaries"] == boundaries("cpu", "int4", 0.9)
    assert found["boundaries"][0] != found["boundaries"][1]


def test_what_cannot_be_encoded_is_refused_in_the_same_words(found: dict[str, Any]) -> None:
    assert found["refusals"] == [refusal("cpu", value) for value in (float("nan"), 2.0**121)]
    assert found["refusals"][0].startswith("NonFiniteUpdateError: round 0: expected a finite pseudo-gradient, found 1 ")
    assert found["refusals"][1].startswith("NonFiniteUpdateError: int4: expected magnitudes up to")


def test_a_device_with_other_bits_is_not_used_and_the_log_says_so_once(found: dict[str, Any]) -> None:
    job = found["flushing"]
    assert (job["num_checks"], job["num_on_cpu"]) == (1, 6)
    (line,) = job["log"]
    assert line.startswith(
        "WARNING: int4 is encoded on the CPU, not on cpu, with the same result: int4 on cpu: expected"
    )
    assert line.endswith("Install Triton 3.6 or newer; until then this job encodes on the CPU.")


def test_nor_is_one_that_cannot_be_checked(found: dict[str, Any]) -> None:
    job = found["broken"]
    assert job["num_on_cpu"] == 6
    assert job["log"] == ["WARNING: int4 is encoded on the CPU, not on cpu, with the same result: OSError: no compiler"]


def test_other_codecs_are_encoded_on_the_cpu(found: dict[str, Any]) -> None:
    job = found["sparse"]
    assert (job["num_checks"], job["num_on_cpu"]) == (0, 6)
    assert job["log"] == ["INFO: sparse is encoded on the CPU: there are no kernels of it for cpu"]


def test_without_triton_the_cpu_encodes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    expected = boundaries("cpu", "int4", 0.9)
    monkeypatch.setattr(parameters, "ACCELERATORS", ("cpu",))
    for name in ("triton", *(name for name in sys.modules if name.startswith("federation.codecs_device"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with caplog.at_level(logging.INFO):
        assert boundaries("cpu", "int4", 0.9) == expected
    (record,) = (r for r in caplog.records if "encoded on" in r.getMessage())
    assert record.levelname == "WARNING"
    assert "triton" in record.getMessage()


def test_parameters_on_the_cpu_are_no_affair_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    job = OneFragment("cpu", "int4", None)
    monkeypatch.setattr(exchange.DeviceEncoding, "is_ready", lambda self, device: pytest.fail("nobody may ask"))
    assert job.boundary(0)["digest"]


# --- where parameters lie -------------------------------------------------------------------------------------------


def local(shards: list[Shard]) -> LocalParameters:
    return LocalParameters(lambda: shards, OneFragment("cpu", "int4", None).exchange._manifest.fragments)


def usual_shards() -> dict[str, Shard]:
    return {n: Shard(n, whole(t), t) for n, t in ((n, torch.randn(shape)) for n, shape in SHAPES.items())}


def test_flat_tensors_on_an_accelerator_are_taken_as_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = usual_shards()
    b = shards["b"]
    head, tail = (slice(0, 3), b.where[1]), (slice(3, 1024), b.where[1])
    halves = [Shard("b", tail, b.tensor[3:]), Shard("b", head, b.tensor[:3])]
    parameters_ = local([*halves, *(shards[n] for n in "dca")])
    assert parameters_.on_device(0) is None
    monkeypatch.setattr(parameters, "ACCELERATORS", ("cpu",))
    views = parameters_.on_device(0)
    assert views is not None
    assert torch.cat(views).numpy().tobytes() == parameters_.read(0).tobytes()
    bases = {shard.tensor.untyped_storage().data_ptr() for shard in shards.values()}
    assert {view.untyped_storage().data_ptr() for view in views} == bases


@pytest.mark.parametrize("defect", ["strided", "columns", "elsewhere", "half"])
def test_others_are_not(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "ACCELERATORS", ("cpu", "meta"))
    shards = usual_shards()
    parameters_ = LocalParameters(
        lambda: [s for shard in shards.values() for s in ([shard] if isinstance(shard, Shard) else shard)],
        OneFragment("cpu", "int4", None).exchange._manifest.fragments,
    )
    assert parameters_.on_device(0) is not None
    b, (rows, columns) = shards["b"].tensor, shards["b"].where
    shards |= {
        "strided": {"b": Shard("b", (rows, columns), b.t().contiguous().t())},
        "columns": {"b": [_part(b, rows, slice(0, 5)), _part(b, rows, slice(5, columns.stop))]},
        "elsewhere": {"a": Shard("a", shards["a"].where, shards["a"].tensor.to("meta"))},
        "half": {n: shard._replace(tensor=shard.tensor.half()) for n, shard in shards.items()},
    }[defect]
    assert parameters_.on_device(0) is None


def _part(tensor: torch.Tensor, rows: slice, columns: slice) -> Shard:
    return Shard("b", (rows, columns), tensor[rows, columns].contiguous())


# --- a real device --------------------------------------------------------------------------------------------------


@pytest.mark.device
@real_device
@pytest.mark.parametrize(("codec", "feedback"), [("int4", 0.9), ("int4", None), ("int8", 0.9), ("sparse", 0.9)])
def test_payloads_feedback_and_digests_are_the_cpus(codec: str, feedback: float | None) -> None:
    assert boundaries("cuda", codec, feedback) == boundaries("cpu", codec, feedback)


@pytest.mark.device
@real_device
@pytest.mark.parametrize("codec", ["int4", "int8"])
def test_the_device_is_used(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = OneFragment("cuda", codec, 0.9)
    monkeypatch.setattr(LocalParameters, "_fragments", lambda *arguments: pytest.fail("local values travelled"))
    assert job.boundary(0)["digest"]


@pytest.mark.device
@real_device
def test_a_refusal_on_the_device_is_the_cpus() -> None:
    for value in (float("nan"), 2.0**121):
        assert refusal("cuda", value) == refusal("cpu", value)
