# SPDX-License-Identifier: Apache-2.0
"""Megatron's .bin and .idx: read as they are written, no held-out token in training, and each kind of damage named."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from megatron_files import write_megatron

from federation.text_split import Split
from site_agent.data_sets import (
    DataError,
    DataFormat,
    DataSet,
    DataTypeError,
    EmptyDataError,
    IndexMismatchError,
    MissingDataError,
    TruncatedDataError,
    VocabularyError,
)
from site_agent.trainer.data_documents import files_of
from site_agent.trainer.data_megatron import TokenPool, held_out_tokens, open_tokens, split_of_tokens

VOCABULARY = 60_000
DOCUMENTS = [[[n * 7 + 1, n * 7 + 2], [], [n * 7 + 3] * (n % 5)] for n in range(300)]
HELD_OUT = [18, 28, 31, 35, 45, 51, 58, 65, 78]
FLAT = [[token for sequence in document for token in sequence] for document in DOCUMENTS]


def data_set(path: Path, **more: float) -> DataSet:
    return DataSet(name="web", path=str(path), format=DataFormat.MEGATRON, language="de", **more)  # type: ignore[arg-type]


def pool(path: Path, vocabulary: int = VOCABULARY, **more: float) -> TokenPool:
    data = data_set(path, **more)
    return TokenPool(data, open_tokens(data, files_of(data)), vocabulary)


@pytest.mark.parametrize("dtype", ["u2", "i2", "i4", "i8"])
def test_documents_are_read_as_they_were_written(dtype: str, tmp_path: Path) -> None:
    path = write_megatron(tmp_path / "web_text_document", DOCUMENTS, dtype)
    (file,) = open_tokens(data_set(path), (path,))
    file.check()
    assert (file.num_documents, file.num_tokens) == (300, sum(map(len, FLAT)))
    assert [file.tokens(*file.document(n)).tolist() for n in range(300)] == FLAT
    begins = np.cumsum([0, *map(len, FLAT)])
    assert all(file.document_at(t) == np.searchsorted(begins, t, side="right") - 1 for t in range(file.num_tokens))
    assert file.largest() == max(map(max, FLAT))


def test_data_may_be_named_as_megatron_names_them(tmp_path: Path) -> None:
    path = write_megatron(tmp_path / "web_text_document", DOCUMENTS)
    assert files_of(data_set(tmp_path / "web_text_document")) == files_of(data_set(tmp_path)) == (path,)


def test_training_sees_every_training_token_and_no_held_out_one(tmp_path: Path) -> None:
    write_megatron(tmp_path / "a", DOCUMENTS[:150])
    write_megatron(tmp_path / "b", DOCUMENTS[150:], "i4")
    train = [tokens for tokens in FLAT if split_of_tokens(np.array(tokens)) is Split.TRAIN]
    held_out = [tokens for tokens in FLAT if split_of_tokens(np.array(tokens)) is Split.HELD_OUT]
    assert 5 < len(held_out) < 30
    stream = [token for tokens in train for token in tokens]
    source, redraws = pool(tmp_path), iter(range(10**9))
    found = [source.sequence(draw, lambda _: next(redraws) * 31, 5).tolist() for draw in range(sum(map(len, FLAT)))]
    endless = stream + stream
    spots = {tuple(endless[i : i + 6]) for i in range(len(stream))}
    assert {tuple(tokens) for tokens in found} == spots
    files = open_tokens(data_set(tmp_path), files_of(data_set(tmp_path)))
    assert held_out_tokens(files, 10**6).tolist() == [token for tokens in held_out for token in tokens]
    assert held_out_tokens(files, 7).size == 7


def test_a_document_is_on_the_same_side_wherever_it_stands_and_however_it_is_stored(tmp_path: Path) -> None:
    one = write_megatron(tmp_path / "one", DOCUMENTS)
    other = write_megatron(tmp_path / "other", DOCUMENTS[::-1], "i4")
    (first,), (second,) = (open_tokens(data_set(path), (path,)) for path in (one, other))
    assert [first.side(n) for n in range(300)] == [second.side(299 - n) for n in range(300)]


def test_the_split_never_changes() -> None:
    held_out = [n for n in range(100) if split_of_tokens(np.array([n, n + 1])) is Split.HELD_OUT]
    assert held_out == HELD_OUT


def test_token_ids_must_fit_the_runs_vocabulary(tmp_path: Path) -> None:
    write_megatron(tmp_path / "a", [[[n, n + 1, n + 2]] for n in range(300)])
    write_megatron(tmp_path / "b", [[[-n, 1, 2]] for n in range(1, 300)], "i4")
    with pytest.raises(VocabularyError, match=r"data set web: expected token ids from 0 to 299.*found 30"):
        [pool(tmp_path / "a.bin", 300).sequence(draw, lambda attempt: attempt, 3) for draw in range(900)]
    with pytest.raises(VocabularyError, match="found -"):
        pool(tmp_path / "b.bin").sequence(0, lambda attempt: attempt, 3)
    with pytest.raises(
        VocabularyError, match="expected token ids below 300, the run's vocabulary, found a tokenizer of 301"
    ):
        pool(tmp_path / "a.bin", 300, vocab_size=301)


def test_where_nothing_may_be_trained_on(tmp_path: Path) -> None:
    held_out = next([n, n + 1] for n in range(100) if split_of_tokens(np.array([n, n + 1])) is Split.HELD_OUT)
    write_megatron(tmp_path / "a", [[held_out]] * 3)
    with pytest.raises(EmptyDataError, match="expected training documents, found none"):
        pool(tmp_path).sequence(1, lambda attempt: attempt, 3)


def index(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: _changed(path.with_suffix(".idx"), change)


def tokens(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: _changed(path, change)


def _changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def header(position: int, value: bytes) -> Callable[[Path], None]:
    return index(lambda data: data[:position] + value + data[position + len(value) :])


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (lambda path: path.with_suffix(".idx").unlink(), MissingDataError, r"a\.bin: expected its index.*no a\.idx"),
        (index(lambda _: b""), EmptyDataError, r"a\.idx: .*found an empty file"),
        (tokens(lambda _: b""), EmptyDataError, r"a\.bin: .*found an empty file"),
        (
            index(lambda _: b"MMIDIDX"),
            IndexMismatchError,
            r"a\.idx: expected an index of Megatron data, found something",
        ),
        (index(lambda data: data[:20]), TruncatedDataError, "with a header of 34 bytes, found 20"),
        (index(lambda data: data[:-1]), TruncatedDataError, r"a\.idx: expected 13242 bytes by its header, found 13241"),
        (index(lambda data: data + bytes(900)), IndexMismatchError, "modes of sequences are not supported"),
        (header(9, struct.pack("<Q", 2)), IndexMismatchError, "of version 1, found 2"),
        (header(17, b"\x07"), DataTypeError, r"whole numbers as token ids, found float32 \(code 7\)"),
        (header(17, b"\x63"), DataTypeError, "found code 99"),
        (header(17, b"\x04"), TruncatedDataError, r"a\.bin: expected 2408 bytes by its index, found 2400"),
        (header(18, bytes(8)), EmptyDataError, "with a document, found 0 sequences"),
        (header(18, b"\xff" * 8), TruncatedDataError, "by its header"),
        (tokens(lambda data: data[:-2]), TruncatedDataError, r"a\.bin: expected 2400 bytes by its index, found 2398"),
        (tokens(lambda data: data + b"xx"), IndexMismatchError, r"a\.bin: expected 2400 bytes by its index"),
    ],
)
def test_damage_is_named(damage: Callable[[Path], None], kind: type[DataError], words: str, tmp_path: Path) -> None:
    path = write_megatron(tmp_path / "a", DOCUMENTS)
    damage(path)
    with pytest.raises(kind, match=f"data set web, .*{words}|data set web, {words}"):
        pool(path)


def test_an_index_with_wrong_insides_is_found_by_the_check_and_never_read_beyond(tmp_path: Path) -> None:
    path = write_megatron(tmp_path / "a", DOCUMENTS)
    for position, value in ((34 + 4 * 900 + 8 * 450, struct.pack("<q", 2**40)), (34 + 12 * 900 + 8 * 9, b"\xff" * 8)):
        whole = path.with_suffix(".idx").read_bytes()
        header(position, value)(path)
        (file,) = open_tokens(data_set(path), (path,))
        with pytest.raises(IndexMismatchError, match=r"expected (sequences one behind|ascending)"):
            file.check()
        with pytest.raises(IndexMismatchError, match=r"document \d+: expected ascending"):
            [file.document(number) for number in range(file.num_documents)]
        path.with_suffix(".idx").write_bytes(whole)
