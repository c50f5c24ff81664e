# SPDX-License-Identifier: Apache-2.0
"""Text and jsonl, packed or not: the same documents, and one typed sentence for whatever is wrong."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from federation.errors import ConfigError
from site_agent.data_sets import (
    BadLineError,
    BrokenArchiveError,
    DataFormat,
    DataSet,
    MissingDataError,
    NotUtf8Error,
    UnknownFormatError,
    UnreadableDataError,
)
from site_agent.trainer.data_documents import documents, files_of

SECRET = "Geheimnis"
TEXTS = [f"Zeile {n} ä" for n in range(2000)]
PLAIN = "\n".join(TEXTS).encode()
OBJECTS = "\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(TEXTS)).encode()


def data_set(path: Path, kind: DataFormat = DataFormat.TEXT, **more: str) -> DataSet:
    return DataSet(name="web", path=str(path), format=kind, language="de", **more)


def read(path: Path, kind: DataFormat = DataFormat.TEXT, **more: str) -> list[str]:
    data = data_set(path, kind, **more)
    return [text for file in files_of(data) for text, _ in documents(data, file)]


def frames(data: bytes) -> bytes:
    """Two zstd frames, as parallel packers write them."""
    pack = zstandard.ZstdCompressor().compress
    return pack(data[: len(data) // 2]) + pack(data[len(data) // 2 :])


PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": frames}


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_and_plain_hold_the_same_documents(packing: str, tmp_path: Path) -> None:
    (tmp_path / f"a.txt{packing}").write_bytes(PACKERS[packing](PLAIN))
    (tmp_path / f"b.jsonl{packing}").write_bytes(PACKERS[packing](OBJECTS))
    assert read(tmp_path / f"a.txt{packing}") == TEXTS
    assert read(tmp_path / f"b.jsonl{packing}", DataFormat.JSONL) == TEXTS
    assert read(tmp_path, DataFormat.JSONL) == TEXTS


def test_the_text_field_can_be_named_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "eins\\nzwei\\n", "text": 3}\n\n  \n{"body": ""}\n{"body": "drei"}')
    assert read(path, DataFormat.JSONL, text_field="body") == ["eins\nzwei", "drei"]


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_broken_archives(packing: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(PACKERS[packing](PLAIN)[:-9] if damage == "cut" else b"no archive at all, for sure" * 9)
    with pytest.raises(BrokenArchiveError, match=rf"data set web, a\.txt{packing}: expected readable UTF-8 text in a"):
        read(path)


def test_a_zstd_file_that_ends_between_two_frames_is_whole_and_one_inside_is_not(tmp_path: Path) -> None:
    path, packed = tmp_path / "a.txt.zst", zstandard.ZstdCompressor().compress(PLAIN)
    path.write_bytes(packed + packed)
    assert len(read(path)) == 2 * len(TEXTS) - 1  # PLAIN has no line end at its end
    path.write_bytes(packed + packed[:5])
    with pytest.raises(BrokenArchiveError, match="its end is missing"):
        read(path)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f'{{"text": "{SECRET}', "found no JSON"),
        (f'["{SECRET}"]', "found a list"),
        (f'{{"body": "{SECRET}"}}', "found an object without it"),
        (f'{{"text": ["{SECRET}"]}}', "found a list there"),
        ("[" * 100_000, "found no JSON"),
    ],
)
def test_lines_that_are_no_objects_with_a_text(line: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "gut"}\n' + line)
    expected = f'data set web, a.jsonl: line 2: expected a JSON object with a text "text", {found}'
    with pytest.raises(BadLineError) as caught:
        read(path, DataFormat.JSONL)
    assert str(caught.value) == expected
    assert SECRET not in caught.value.diagnostics()
    assert "data check" in caught.value.advice


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", b"gut\n\xff" + SECRET.encode(), DataFormat.TEXT),
        ("a.jsonl", b'{"text": "gut"}\n{"text": "\\ud800' + SECRET.encode() + b'"}', DataFormat.JSONL),
    ],
)
def test_what_is_not_utf8(name: str, data: bytes, kind: DataFormat, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(NotUtf8Error, match=f"{name}: line 2: expected .*UTF-8") as caught:
        read(tmp_path / name, kind)
    assert SECRET not in str(caught.value)


def test_what_is_missing_or_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        MissingDataError, match=r"expected files that end in \.txt or \.txt\.gz or \.txt\.zst, found none"
    ):
        read(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="found none"):
        read(tmp_path)
    with pytest.raises(UnknownFormatError, match=r"a\.parquet: expected files that end in .*found another ending"):
        read(tmp_path / "a.parquet")
    with pytest.raises(UnreadableDataError, match="Is a directory"):
        list(documents(data_set(tmp_path), tmp_path))
    with pytest.raises(MissingDataError, match=r"data set web, gone\.txt: expected a file, found none"):
        list(documents(data_set(tmp_path), tmp_path / "gone.txt"))


def test_no_message_has_a_directory_in_it(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path / "gone.txt"):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert str(tmp_path) not in caught.value.diagnostics()
