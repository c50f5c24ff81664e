# SPDX-License-Identifier: Apache-2.0
"""The committed protobuf stubs are what their sources generate."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

GENERATE = Path(__file__).resolve().parents[2] / "protos" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", GENERATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stubs_are_current() -> None:
    done = subprocess.run([sys.executable, str(GENERATE), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_drift_is_named(generate: ModuleType) -> None:
    lines = generate.drift({"a_pb2.py": b"1", "b_pb2.py": b"1"}, {"b_pb2.py": b"2", "c_pb2.py": b"3"})
    assert [line.split(":")[0] for line in lines] == [f"federation/v1/{name}_pb2.py" for name in "abc"]
    assert generate.drift({"a_pb2.py": b"1"}, {"a_pb2.py": b"1"}) == []


def test_stubs_import_each_other_from_the_package() -> None:
    for stub in (GENERATE.parents[1] / "federation" / "v1").glob("*_pb2.py"):
        for line in stub.read_text().splitlines():
            assert not line.startswith("import ") or "_pb2" not in line
            assert "_pb2" not in line or not line.startswith("from ") or line.startswith("from federation.v1 import ")
