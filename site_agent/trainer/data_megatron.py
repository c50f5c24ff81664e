# SPDX-License-Identifier: Apache-2.0
"""Token ids as Megatron-LM's preprocessing writes them: NAME.bin, and NAME.idx that says where sequences begin.

The index, little-endian (Megatron-LM, megatron/core/datasets/indexed_dataset.py): magic MMIDIDX and two zero bytes,
uint64 version 1, uint8 code of the tokens' type, uint64 number of sequences n, uint64 number of document bounds d,
int32[n] tokens per sequence, int64[n] byte offset of each sequence, int64[d] number of the sequence that each document
begins with, from 0 to n. (Multimodal data have int8[n] modes behind it and are refused.)

Both files stay mapped: memory does not grow with the data. A document's side of the split follows from its own tokens,
so that a document that occurs twice, in one file, two files or at two sites with one tokenizer, is on one side.
"""

import mmap
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from federation.text_split import HELD_OUT_SHARE, Split
from site_agent.data_sets import (
    DataSet,
    DataTypeError,
    EmptyDataError,
    IndexMismatchError,
    MissingDataError,
    TruncatedDataError,
    VocabularyError,
    where,
)
from site_agent.trainer.data_documents import opened

Tokens = NDArray[np.int64]

MAGIC: Final = b"MMIDIDX\x00\x00"
VERSION: Final = 1
HEADER: Final = struct.Struct("<9sQBQQ")
DTYPES: Final[dict[int, str]] = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
"""Codes of the format; the two floating ones cannot be token ids."""

SPLIT_TOKENS: Final = 4096
"""Tokens of a document, from its begin, that decide on which side it is."""

MAX_REDRAWS: Final = 1000
"""Draws for one sequence until one falls into a training document; one in twenty does not."""

_NUM_CHECKED: Final = 65_536


def split_of_tokens(tokens: NDArray[Any]) -> Split:
    """The side of a document, by a hash of its first `SPLIT_TOKENS` ids as int64 (BLAKE2b, 8 bytes)."""
    data = np.ascontiguousarray(tokens[:SPLIT_TOKENS], "<i8").tobytes()
    digest = blake2b(data, digest_size=8, person=b"token-split").digest()
    return Split.HELD_OUT if int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0 else Split.TRAIN


class TokenFile:
    """One pair of files.

    Attributes:
        num_documents, num_tokens: as the index says.
        dtype: of a token in the .bin file.
    """

    def __init__(self, data: DataSet, bin_path: Path) -> None:
        """Maps both files and checks what can be checked without reading them; `check` reads the whole index.

        Raises:
            DataError: one of them is missing, cut, of another kind, or they do not belong together.
        """
        self._index_name = where(data.name, bin_path.with_suffix(".idx"))
        self._bin_name = where(data.name, bin_path)
        index = _mapped(data, bin_path.with_suffix(".idx"))
        self._bin = _mapped(data, bin_path)
        num_sequences, num_bounds, self.dtype = self._header(index)
        pointers_at = HEADER.size + 4 * num_sequences
        bounds_at = pointers_at + 8 * num_sequences
        self._expect_size(len(index), bounds_at + 8 * num_bounds)
        self._lengths = np.frombuffer(index, "<i4", num_sequences, HEADER.size)
        self._pointers = np.frombuffer(index, "<i8", num_sequences, pointers_at)
        self._bounds = np.frombuffer(index, "<i8", num_bounds, bounds_at)
        self.num_documents = num_bounds - 1
        self._check_ends()
        self.num_tokens = len(self._bin) // self.dtype.itemsize
        self.side = lru_cache(4096)(self._side)

    def _header(self, index: mmap.mmap) -> tuple[int, int, "np.dtype[Any]"]:
        expected = f"{self._index_name}: expected an index of Megatron data"
        if index[: len(MAGIC)] != MAGIC:
            raise IndexMismatchError(f"{expected}, found something else")
        if len(index) < HEADER.size:
            raise TruncatedDataError(f"{expected} with a header of {HEADER.size} bytes, found {len(index)}")
        _, version, code, num_sequences, num_bounds = HEADER.unpack_from(index)
        if version != VERSION:
            raise IndexMismatchError(f"{expected} of version {VERSION}, found {version}")
        dtype = np.dtype(DTYPES[code]) if code in DTYPES else None
        if dtype is None or dtype.kind == "f":
            found = f"code {code}" if dtype is None else f"{dtype.name} (code {code})"
            raise DataTypeError(f"{expected} with whole numbers as token ids, found {found}")
        if not num_sequences or num_bounds < 2:
            raise EmptyDataError(f"{expected} with a document, found {num_sequences} sequences")
        return num_sequences, num_bounds, dtype

    def _expect_size(self, found: int, expected: int) -> None:
        if found < expected:
            raise TruncatedDataError(f"{self._index_name}: expected {expected} bytes by its header, found {found}")
        if found > expected:
            more = "(data with modes of sequences are not supported)"
            raise IndexMismatchError(f"{self._index_name}: expected {expected} bytes, found {found} {more}")

    def _check_ends(self) -> None:
        first, last = int(self._bounds[0]), int(self._bounds[-1])
        if (first, last) != (0, self._lengths.size):
            expected = f"documents of sequences 0 to {self._lengths.size}"
            raise IndexMismatchError(f"{self._index_name}: expected {expected}, found {first} to {last}")
        end = int(self._pointers[-1]) + int(self._lengths[-1]) * self.dtype.itemsize
        if len(self._bin) < end:
            raise TruncatedDataError(f"{self._bin_name}: expected {end} bytes by its index, found {len(self._bin)}")
        if len(self._bin) > end or int(self._pointers[0]):
            found = f"{len(self._bin)}, of which sequences begin at {int(self._pointers[0])}"
            raise IndexMismatchError(f"{self._bin_name}: expected {end} bytes by its index, found {found}")

    # --- reading ------------------------------------------------------------------------------------------------------

    def document(self, number: int) -> tuple[int, int]:
        """First token of a document and the one behind its last, counted over the whole file."""
        first, last = (int(self._bounds[number + i]) for i in (0, 1))
        if not 0 <= first <= last <= self._lengths.size:
            raise IndexMismatchError(f"{self._index_name}: document {number}: expected ascending bounds, found others")
        begin, end = (self._begin(sequence) for sequence in (first, last))
        if not 0 <= begin <= end <= self.num_tokens:
            raise IndexMismatchError(f"{self._index_name}: document {number}: expected ascending offsets, found others")
        return begin, end

    def _begin(self, sequence: int) -> int:
        if sequence == self._lengths.size:
            return self.num_tokens
        return int(self._pointers[sequence]) // self.dtype.itemsize

    def document_at(self, token: int) -> int:
        """Number of the document that holds a token."""
        sequence = bisect_right(self._pointers, token * self.dtype.itemsize) - 1
        return bisect_right(self._bounds, sequence) - 1

    def tokens(self, begin: int, end: int) -> NDArray[Any]:
        """Token ids as they are stored; a view of the file."""
        return np.frombuffer(self._bin, self.dtype, end - begin, begin * self.dtype.itemsize)

    def _side(self, number: int) -> Split:
        begin, end = self.document(number)
        return split_of_tokens(self.tokens(begin, min(end, begin + SPLIT_TOKENS)))

    def check(self) -> None:
        """Reads the whole index: every length, offset and bound.

        Raises:
            IndexMismatchError: sequences do not lie one behind the other, or documents are not in order.
        """
        end = 0
        for first in range(0, self._lengths.size, _NUM_CHECKED):
            lengths = self._lengths[first : first + _NUM_CHECKED].astype(np.int64)
            ends = end + np.cumsum(lengths) * self.dtype.itemsize
            begins = ends - lengths * self.dtype.itemsize
            if lengths.min() < 0 or not np.array_equal(begins, self._pointers[first : first + _NUM_CHECKED]):
                expected = "sequences one behind the other"
                raise IndexMismatchError(f"{self._index_name}: expected {expected}, found others after {first}")
            end = int(ends[-1])
        for first in range(0, self._bounds.size, _NUM_CHECKED):
            if np.any(np.diff(self._bounds[first : first + _NUM_CHECKED + 1]) < 0):
                raise IndexMismatchError(f"{self._index_name}: expected ascending documents, found others")

    def largest(self) -> int:
        """The largest token id, or the smallest if one is negative. Reads the whole .bin file."""
        top = 0
        for begin in range(0, self.num_tokens, _NUM_CHECKED):
            part = self.tokens(begin, min(begin + _NUM_CHECKED, self.num_tokens))
            if int(part.min()) < 0:
                return int(part.min())
            top = max(top, int(part.max()))
        return top


class TokenPool:
    """Training sequences from the documents of one data set, in the order of files and documents.

    A start is drawn from all tokens; one that falls into a held-out document is drawn again. From there on the tokens
    of training documents follow, held-out ones are skipped, and behind the last file comes the first one.
    """

    def __init__(self, data: DataSet, files: tuple[TokenFile, ...], vocab_size: int) -> None:
        """
        Raises:
            VocabularyError: the tokenizer that made them, as site.toml says, has more tokens than the run's model.
        """
        self._data, self._files, self._vocab_size = data, files, vocab_size
        if data.vocab_size > vocab_size:
            raise VocabularyError(
                f"{where(data.name)}: expected token ids below {vocab_size}, the run's vocabulary, "
                f"found a tokenizer of {data.vocab_size}"
            )
        self._starts = [0]
        for file in files:
            self._starts.append(self._starts[-1] + file.num_tokens)

    def sequence(self, draw: int, redraw: Callable[[int], int], length: int) -> Tokens:
        """int64[length + 1]: tokens and, shifted by one, their labels.

        Raises:
            VocabularyError: a token id that the run's model has no place for.
            EmptyDataError: no training document is found.
        """
        for attempt in range(1, MAX_REDRAWS):
            number = bisect_right(self._starts, draw % self._starts[-1]) - 1
            token = draw % self._starts[-1] - self._starts[number]
            if self._files[number].side(self._files[number].document_at(token)) is Split.TRAIN:
                return self._checked(self._read(number, token, length + 1))
            draw = redraw(attempt)
        raise EmptyDataError(f"{where(self._data.name)}: expected training documents, found none")

    def _read(self, number: int, token: int, count: int) -> Tokens:
        """`count` tokens from there on. At least one training document is there: it holds the first one."""
        found: list[NDArray[Any]] = []
        file = self._files[number]
        document = file.document_at(token)
        while count:
            _, end = file.document(document)
            if file.side(document) is Split.TRAIN and end > token:
                found.append(file.tokens(token, min(end, token + count)))
                count -= found[-1].size
            document += 1
            if document == file.num_documents:
                number, document = (number + 1) % len(self._files), 0
                file = self._files[number]
            token = file.document(document)[0]
        return np.concatenate(found).astype(np.int64)

    def _checked(self, tokens: Tokens) -> Tokens:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self._vocab_size:
            expected = f"token ids from 0 to {self._vocab_size - 1}, the run's vocabulary"
            found = low if low < 0 else high
            raise VocabularyError(f"{where(self._data.name)}: expected {expected}, found {found}")
        return tokens


def held_out_tokens(files: tuple[TokenFile, ...], max_tokens: int) -> Tokens:
    """The first held-out tokens of a data set, always the same ones; fewer if there are fewer."""
    found: list[NDArray[Any]] = []
    for piece in _held_out(files):
        found.append(piece[:max_tokens])
        max_tokens -= found[-1].size
        if max_tokens <= 0:
            break
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)


def _held_out(files: tuple[TokenFile, ...]) -> Iterator[NDArray[Any]]:
    for file in files:
        for number in range(file.num_documents):
            if file.side(number) is Split.HELD_OUT:
                yield file.tokens(*file.document(number))


def _mapped(data: DataSet, path: Path) -> mmap.mmap:
    with opened(data.name, path) as file:
        if not path.stat().st_size:
            raise EmptyDataError(f"{where(data.name, path)}: expected Megatron data, found an empty file")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def open_tokens(data: DataSet, files: tuple[Path, ...]) -> tuple[TokenFile, ...]:
    """All pairs of a data set.

    Raises:
        DataError: one is missing or wrong.
    """
    for path in files:
        if not path.with_suffix(".idx").exists():
            expected = "its index beside it"
            raise MissingDataError(f"{where(data.name, path)}: expected {expected}, found no {path.stem}.idx")
    return tuple(TokenFile(data, path) for path in files)
