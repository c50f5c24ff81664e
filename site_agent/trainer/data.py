# SPDX-License-Identifier: Apache-2.0
"""Text as bytes: which files, which side of the split, and which sequences in which order.

A sequence is a beginning-of-text mark (256) and bytes of one language from any offset. The n-th sequence of a site is
a pure function of (seed, site, n): the cursor is the whole state, and a resumed job continues exactly there.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from federation.errors import ConfigError
from federation.text_split import Split, split_of

BEGIN_OF_TEXT = 256
"""The token in front of every sequence; smaller ones are bytes."""

Bytes = NDArray[np.uint8]


def text_files(data_dir: Path, language: str) -> list[Path]:
    """Files of one language, by name: `<language>.txt`, `<language>.<anything>.txt`, also with .gz, ascending.

    Raises:
        ConfigError: there is none.
    """
    found = [
        path
        for path in data_dir.iterdir()
        if path.name.startswith((f"{language}.", f"{language}-", f"{language}_"))
        and path.name.endswith((".txt", ".txt.gz"))
    ]
    if not found:
        raise ConfigError(
            f"{data_dir}: expected text of language {language}, found no {language}*.txt or {language}*.txt.gz",
            advice="Set data_dir and languages in the site's site.toml to what is there.",
        )
    return sorted(found)


def read_lines(paths: Sequence[Path]) -> Iterator[str]:
    """Lines of UTF-8 text files without their line ends; empty ones are left out.

    Raises:
        ConfigError: a file cannot be read, unpacked or decoded.
    """
    for path in paths:
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8", newline="\n") as file:
                yield from (line for line in (raw.rstrip("\r\n") for raw in file) if line)
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise ConfigError(f"{path}: expected readable UTF-8 text, found: {error}") from error


def load_split(data_dir: Path, language: str, split: Split, max_bytes: int | None = None) -> Bytes:
    """One side of one language's text as uint8[n], lines joined by line ends.

    Args:
        max_bytes: stop after so many bytes; None reads all.

    Raises:
        ConfigError: no file, an unreadable one, or no line on this side.
    """
    text = bytearray()
    for line in read_lines(text_files(data_dir, language)):
        if split_of(line) is split:
            text += line.encode() + b"\n"
            if max_bytes is not None and len(text) >= max_bytes:
                break
    if not text:
        raise ConfigError(f"{data_dir}: expected {split} lines of language {language}, found none")
    data = np.frombuffer(bytes(text), np.uint8)
    return data if max_bytes is None else data[:max_bytes]


class SequenceSource:
    """Training sequences of one site in their order; the languages take equal parts.

    Attributes:
        cursor: number of the next sequence.
    """

    def __init__(self, texts: Sequence[Bytes], *, sequence_length: int, seed: int, site: str) -> None:
        self.cursor = 0
        self._length = sequence_length
        self._texts = [_at_least(text, sequence_length) for text in texts]
        self._key = blake2b(f"{seed}/{site}".encode(), digest_size=32).digest()

    def next_batch(self, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels, int64[batch_size, sequence_length]; input t is the byte before label t."""
        labels = np.stack([self._sequence(self.cursor + i) for i in range(batch_size)])
        self.cursor += batch_size
        return with_inputs(labels)

    def _sequence(self, number: int) -> Bytes:
        draw = blake2b(number.to_bytes(8, "big"), digest_size=16, key=self._key).digest()
        text = self._texts[int.from_bytes(draw[:8], "big") % len(self._texts)]
        offset = int.from_bytes(draw[8:], "big") % (text.size - self._length + 1)
        return text[offset : offset + self._length]


def with_inputs(labels: Bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, labels) as int64[B, L] of label bytes uint8[B, L]: inputs are shifted, with `BEGIN_OF_TEXT` in front."""
    labels_BL = torch.from_numpy(labels.astype(np.int64))
    first_B1 = torch.full((labels_BL.shape[0], 1), BEGIN_OF_TEXT, dtype=torch.int64)
    return torch.cat([first_B1, labels_BL[:, :-1]], dim=1), labels_BL


def _at_least(text: Bytes, length: int) -> Bytes:
    return text if text.size >= length else np.tile(text, -(-length // text.size))
