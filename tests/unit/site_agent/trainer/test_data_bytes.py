# SPDX-License-Identifier: Apache-2.0
"""Mapped, decoded and cached texts are the same bytes as a text that was read into memory."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.durable.real import RealFileSystem
from federation.text_split import Split, split_of
from site_agent.data_sets import DataFormat, DataSet, EmptyDataError
from site_agent.trainer.data_bytes import DataCache, SegmentedText, WholeText, first_bytes, joined, text_of

LINES = [f"Zeile {n} ä" for n in range(400)]


def data_set(path: Path, kind: DataFormat = DataFormat.TEXT) -> DataSet:
    return DataSet(name="web", path=str(path), format=kind, language="de")


def expected_side(data: bytes, split: Split) -> bytes:
    """By the words of the documentation: lines without line ends and empty ones, one side, a line end behind each."""
    lines = [line.rstrip("\r\n") for line in data.decode().split("\n")]
    return b"".join(line.encode() + b"\n" for line in lines if line and split_of(line) is split)


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(LINE, st.sampled_from(["\n", "\r\n", "\n\n", "\r\r\n"])), min_size=1), tail=LINE)
def test_a_mapped_file_reads_like_one_in_memory(lines: list[tuple[str, str]], tail: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    data = "".join(line + end for line, end in lines).encode() + tail.encode()
    path.write_bytes(data)
    os.utime(path, ns=(0, hash(data)))  # quicker than a clock: the cache must see that it is another file
    for split in Split:
        wanted = expected_side(data, split)
        if not wanted:
            with pytest.raises(EmptyDataError, match=r"a\.txt: expected .* documents, found none"):
                text_of(data_set(path), split, None)
            continue
        text = text_of(data_set(path), split, None)
        assert bytes(text.read(0, text.size)) == wanted
        for offset in range(0, len(wanted), 7):
            assert bytes(text.read(offset, min(9, len(wanted) - offset))) == wanted[offset : offset + 9]


@pytest.fixture
def several(tmp_path: Path) -> Path:
    directory = tmp_path / "web"
    directory.mkdir()
    (directory / "a.txt").write_text("\n".join(LINES[:100]))
    with gzip.open(directory / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(LINES[100:250]))
    (directory / "c.txt").write_text("")
    (directory / "d.txt").write_text("\r\n".join(LINES[250:]) + "\n")
    return directory


def test_files_follow_one_another_with_and_without_a_cache(several: Path, tmp_path: Path) -> None:
    wanted = expected_side("\n".join(LINES).encode(), Split.TRAIN)
    cache = DataCache(fs=RealFileSystem(tmp_path / "run"))
    for way in (None, cache, cache):
        text = text_of(data_set(several), Split.TRAIN, way)
        assert bytes(text.read(0, text.size)) == wanted
        assert bytes(text.read(777, 3000)) == wanted[777:3777]
    assert bytes(first_bytes(data_set(several), Split.TRAIN, 1234)) == wanted[:1234]


def test_plain_text_is_mapped_and_what_is_decoded_lies_in_the_cache(several: Path, tmp_path: Path) -> None:
    cache = DataCache(fs=RealFileSystem(tmp_path / "run"))
    plain = text_of(data_set(several / "a.txt"), Split.TRAIN, cache)
    packed = text_of(data_set(several / "b.txt.gz"), Split.TRAIN, cache)
    assert isinstance(plain, SegmentedText)
    assert isinstance(packed, WholeText)
    assert not packed.data.flags.owndata
    sizes = sorted(path.stat().st_size for path in (tmp_path / "run" / "data").iterdir())
    assert sizes == sorted([plain.segments.nbytes + 8, packed.size])
    assert all("web" not in path.name for path in (tmp_path / "run" / "data").iterdir())


def test_nothing_is_decoded_twice_and_a_changed_file_is(several: Path, tmp_path: Path) -> None:
    path, fs = several / "b.txt.gz", RealFileSystem(tmp_path / "run")
    cache = DataCache(fs=fs)
    before = text_of(data_set(path), Split.TRAIN, cache)
    (name,) = fs.list("data")
    stamp = (tmp_path / "run" / "data" / name).stat().st_mtime_ns
    text_of(data_set(path), Split.TRAIN, cache)
    assert (tmp_path / "run" / "data" / name).stat().st_mtime_ns == stamp
    path.write_bytes(gzip.compress("\n".join(LINES[:20]).encode()))
    later = DataCache(fs=fs)
    after = text_of(data_set(path), Split.TRAIN, later)
    assert after.size != before.size
    later.prune()
    assert len(fs.list("data")) == 1
    assert name not in fs.list("data")


def test_a_document_of_jsonl_is_on_one_side_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts = [f"{line}\n  second line of {line}" for line in LINES] + LINES
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    for split in Split:
        text = text_of(data_set(path, DataFormat.JSONL), split, None)
        wanted = [t for t in texts if split_of(t) is split]
        assert bytes(text.read(0, text.size)).decode() == "".join(f"{t}\n" for t in wanted)


def test_joined_texts_leave_out_empty_ones() -> None:
    def parts() -> Iterator[WholeText]:
        return (WholeText(data=np.frombuffer(data, np.uint8)) for data in (b"", b"ab", b"", b"c", b"def", b""))

    text = joined(parts())
    assert bytes(text.read(0, 6)) == b"abcdef"
    assert bytes(text.read(1, 3)) == b"bcd"
