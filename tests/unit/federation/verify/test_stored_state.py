# SPDX-License-Identifier: Apache-2.0
"""Stored state of a hostile directory: zarr must not be led to run a decoder that its metadata names."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError
from federation.state.zarr_store import ZarrStateStore
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.stored_state import CheckedZarrStore


class _Payload:
    """Unpickling it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """One honest version of ten elements."""
    values = np.arange(10, dtype=np.float32)
    with ZarrStateStore(RealFileSystem(tmp_path / "d")).create("run-1", 0, 1, 10) as writer:
        writer.write_chunk(0, values, values, values)
        writer.commit()
    return tmp_path / "d/state/run-1/0/1"


def store_of(version: Path) -> CheckedZarrStore:
    return CheckedZarrStore(ReadOnlyFileSystem(version.parents[3]))


def test_what_this_release_writes_is_opened(version: Path) -> None:
    reader = store_of(version).open("run-1", 0, 1)
    assert reader is not None
    assert reader.read_chunk(0).theta.tolist() == list(range(10))
    assert store_of(version).versions("run-1", 0) == [1]
    assert store_of(version).open("run-1", 0, 2) is None


def test_an_array_of_format_2_with_a_pickle_is_not_decoded(version: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    group = json.loads((version / "zarr.json").read_bytes())["attributes"]
    for path in (version / "zarr.json", *(version / name / "zarr.json" for name in ("theta", "momentum", "residual"))):
        path.unlink()
    (version / ".zgroup").write_text('{"zarr_format": 2}')
    (version / ".zattrs").write_text(json.dumps(group))
    for name in ("theta", "momentum", "residual"):
        array = {"zarr_format": 2, "shape": [10], "chunks": [10], "dtype": "<f4", "compressor": {"id": "pickle"}}
        array |= {"fill_value": 0, "order": "C", "filters": None}
        (version / name / ".zarray").write_text(json.dumps(array))
        (version / name / "0").write_bytes(pickle.dumps(_Payload(touched)))
    with pytest.raises(CorruptObjectError):
        store_of(version).open("run-1", 0, 1)
    assert not touched.exists()


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def act(version: Path) -> None:
        path = version / "theta/zarr.json"
        metadata = json.loads(path.read_bytes())
        change(metadata)
        path.write_text(json.dumps(metadata))

    return act


HOSTILE: dict[str, Callable[[Path], object]] = {
    "another codec": _edit(lambda m: m["codecs"].append({"name": "gzip", "configuration": {"level": 1}})),
    "another inner codec": _edit(lambda m: m["codecs"][0]["configuration"]["codecs"].insert(0, {"name": "transpose"})),
    "another index codec": _edit(lambda m: m["codecs"][0]["configuration"]["index_codecs"].pop()),
    "a transformer": _edit(lambda m: m.update(storage_transformers=[{"name": "x"}])),
    "a huge shard": _edit(lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[2**50])),
    "huge chunks": _edit(lambda m: m["codecs"][0]["configuration"].update(chunk_shape=[2**50])),
    "another format": _edit(lambda m: m.update(zarr_format=2)),
    "no object": lambda version: (version / "theta/zarr.json").write_text("[]"),
    "no json": lambda version: (version / "theta/zarr.json").write_text("{"),
    "deep json": lambda version: (version / "theta/zarr.json").write_text("[" * 60_000),
    "large metadata": lambda version: (version / "theta/zarr.json").write_text(" " * 10**6),
    "another file": lambda version: (version / ".zgroup").write_text("{}"),
    "another file beside the chunks": lambda version: (version / "theta/.zarray").write_text("{}"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_metadata_is_not_opened(version: Path, name: str) -> None:
    HOSTILE[name](version)
    with pytest.raises(CorruptObjectError):
        store_of(version).open("run-1", 0, 1)
