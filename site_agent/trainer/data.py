# SPDX-License-Identifier: Apache-2.0
"""Training sequences: which data set, which place in it, in which order, and which rank takes them.

The n-th sequence of a site is a pure function of (seed, site, n): 16 bytes of BLAKE2b over n, keyed with both others.
The first 8 choose the data set: modulo their number where all weigh alike, else by their place among the cumulated
weights (exact fractions of 2^64, no floating point). The last 8 choose the place. So the cursor is the whole state, a
resumed job continues exactly there, and neither world size nor batch size moves a sequence.

A sequence of bytes is a beginning-of-text mark (256) and bytes of one data set from any offset; a sequence of token ids
is as many ids and the one behind them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from federation.text_split import Split
from site_agent.data_sets import DataFormat, DataSet
from site_agent.trainer.data_bytes import Bytes, Text, WholeText, first_bytes, text_of
from site_agent.trainer.data_documents import documents, text_files

__all__ = [
    "BEGIN_OF_TEXT",
    "BytePool",
    "Bytes",
    "Pool",
    "SequenceSource",
    "load_split",
    "read_lines",
    "simple_set",
    "text_files",
    "with_inputs",
]

BEGIN_OF_TEXT = 256
"""The token in front of every sequence of bytes; smaller ones are bytes."""

_DRAWS = 2**64


def simple_set(data_dir: Path, language: str) -> DataSet:
    """The data set of one language in the simple way of site.toml: `text_files` are its files."""
    return DataSet(name=language, path=str(data_dir), format=DataFormat.TEXT, language=language)


def read_lines(paths: Sequence[Path]) -> Iterator[str]:
    """Lines of UTF-8 text files without their line ends; empty ones are left out.

    Raises:
        ConfigError: a file cannot be read, unpacked or decoded.
    """
    for path in paths:
        data = DataSet(name="text", path=str(path), format=DataFormat.TEXT, language="")
        yield from (text for text, _ in documents(data, path))


def load_split(data_dir: Path, language: str, split: Split, max_bytes: int | None = None) -> Bytes:
    """One side of one language's text in memory as uint8[n], lines joined by line ends.

    Args:
        max_bytes: stop after so many bytes; None reads all.

    Raises:
        ConfigError: no file, an unreadable one, or no line on this side.
    """
    data, files = simple_set(data_dir, language), text_files(data_dir, language)
    if max_bytes is not None:
        return first_bytes(data, split, max_bytes, files)
    text = text_of(data, split, None, files)
    return text.read(0, text.size)


class Pool(Protocol):
    """Where sequences are drawn from."""

    def sequence(self, draw: int, redraw: Callable[[int], int], length: int) -> NDArray[np.int64]:
        """int64[length + 1]: inputs, and one further they are the labels.

        Args:
            draw: 64 random bits.
            redraw: further 64 bits for the same sequence, by the number of the attempt.
        """


class BytePool:
    """Bytes of a text, each offset alike; a text that is shorter than a sequence is repeated."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def sequence(self, draw: int, redraw: Callable[[int], int], length: int) -> NDArray[np.int64]:
        """int64[length + 1]: `BEGIN_OF_TEXT` and bytes."""
        if self._text.size < length:
            self._text = WholeText(data=np.tile(self._text.read(0, self._text.size), -(-length // self._text.size)))
        offset = draw % (self._text.size - length + 1)
        found = np.empty(length + 1, np.int64)
        found[0], found[1:] = BEGIN_OF_TEXT, self._text.read(offset, length)
        return found


class SequenceSource:
    """Training sequences of one site in their order.

    Attributes:
        cursor: number of the next sequence, counted over all ranks.
        language_tokens: tokens of the sequences up to there, per language, over all ranks; None if that is not known.
    """

    def __init__(
        self,
        texts: Sequence[Bytes | Pool],
        *,
        sequence_length: int,
        seed: int,
        site: str,
        weights: Sequence[float] = (),
        languages: Sequence[str] = (),
    ) -> None:
        """
        Args:
            texts: uint8 arrays, or pools.
            weights: one above 0 for each of them; () for equal parts.
            languages: code of each of them; () where nobody counts.
        """
        self.cursor = 0
        self._languages = tuple(languages)
        self.language_tokens: Mapping[str, int] | None = dict.fromkeys(languages, 0) if languages else None
        self._length = sequence_length
        self._pools = [BytePool(WholeText(data=t)) if isinstance(t, np.ndarray) else t for t in texts]
        self._bounds = _bounds(weights)
        self._key = blake2b(f"{seed}/{site}".encode(), digest_size=32).digest()

    def next_batch(self, batch_size: int, rank: int = 0, world_size: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's part of the next `batch_size` sequences: those whose number leaves `rank` modulo `world_size`.

        Every rank asks for the same `batch_size`, and every cursor moves by it. Where `world_size` does not divide it,
        some ranks get one sequence more than others, perhaps none.

        Returns:
            Inputs and labels, int64[b, sequence_length]; input t is the token before label t.
        """
        numbers = range(self.cursor, self.cursor + batch_size)
        draws = [self._draw(number.to_bytes(8, "big")) for number in numbers]
        pairs = zip(numbers, draws, strict=True)
        found = [self._sequence(number, drawn) for number, drawn in pairs if number % world_size == rank]
        self._count(draws)
        self.cursor += batch_size
        both = np.stack(found) if found else np.empty((0, self._length + 1), np.int64)
        inputs, labels = (np.ascontiguousarray(part) for part in (both[:, :-1], both[:, 1:]))
        return torch.from_numpy(inputs), torch.from_numpy(labels)

    def resume(self, cursor: int, language_tokens: Mapping[str, int] | None) -> None:
        """Goes on from a training checkpoint.

        Args:
            cursor: as it was there.
            language_tokens: as they were there; None in one of a release that did not count: what was trained before
                it is not known, and so the sum never is, unless nothing was.
        """
        self.cursor = cursor
        before = {} if language_tokens is None and not cursor else language_tokens
        known = bool(self._languages) and before is not None
        self.language_tokens = {**dict.fromkeys(self._languages, 0), **(before or {})} if known else None

    def _draw(self, message: bytes) -> bytes:
        return blake2b(message, digest_size=16, key=self._key).digest()

    def _sequence(self, number: int, drawn: bytes) -> NDArray[np.int64]:
        def redraw(attempt: int) -> int:
            return int.from_bytes(self._draw(number.to_bytes(8, "big") + attempt.to_bytes(8, "big"))[8:], "big")

        return self._pools[self._choice(drawn)].sequence(int.from_bytes(drawn[8:], "big"), redraw, self._length)

    def _choice(self, drawn: bytes) -> int:
        number = int.from_bytes(drawn[:8], "big")
        return bisect_right(self._bounds, number) if self._bounds else number % len(self._pools)

    def _count(self, draws: Sequence[bytes]) -> None:
        if self.language_tokens is not None:
            tokens = dict(self.language_tokens)
            for drawn in draws:
                tokens[self._languages[self._choice(drawn)]] += self._length
            self.language_tokens = tokens


def with_inputs(labels: Bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, labels) as int64[B, L] of label bytes uint8[B, L]: inputs are shifted, with `BEGIN_OF_TEXT` in front."""
    labels_BL = torch.from_numpy(labels.astype(np.int64))
    first_B1 = torch.full((labels_BL.shape[0], 1), BEGIN_OF_TEXT, dtype=torch.int64)
    return torch.cat([first_B1, labels_BL[:, :-1]], dim=1), labels_BL


def _bounds(weights: Sequence[float]) -> list[int]:
    """Where the parts of all but the first begin within 2^64 draws; [] for equal parts."""
    if len(set(weights)) <= 1:
        return []
    exact = [Fraction(weight) for weight in weights]
    return [int(part * _DRAWS / sum(exact)) for part in accumulate(exact[:-1])]
