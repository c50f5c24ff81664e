# SPDX-License-Identifier: Apache-2.0
"""Named data sets of a site, as a work order carries them, and what can be wrong with one. Neither numpy nor torch.

Messages name a data set and at most the last part of a file's name, never what is in it.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from federation.errors import ConfigError


class DataFormat(StrEnum):
    """How a data set lies on disk."""

    TEXT = "text"
    """UTF-8 lines: .txt, .txt.gz, .txt.zst; a line is a document."""
    JSONL = "jsonl"
    """One JSON object with a text field per line: .jsonl, .jsonl.gz, .jsonl.zst; an object is a document."""
    MEGATRON = "megatron"
    """Token ids: NAME.bin beside NAME.idx, as Megatron-LM's preprocessing writes them."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    Attributes:
        name: an id; the site's policy may name it.
        path: absolute: a file, or a directory whose files of the format are taken in the order of their names.
        language: code of the language that it counts for.
        weight: its part of the training sequences, relative to the other data sets'.
        text_field: key of a JSON line's text.
        vocab_size: of the tokenizer that made the token ids, 0 if not stated.
        bytes_per_token: mean UTF-8 bytes behind a token id, for bits per byte; 0.0 keeps the set from evaluation.
    """

    name: str
    path: str
    format: DataFormat
    language: str
    weight: float = 1.0
    text_field: str = "text"
    vocab_size: int = 0
    bytes_per_token: float = 0.0


class DataError(ConfigError):
    """The site's data are not what site.toml says. The advice names the command that looks at all of them."""

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message, advice=advice or "`site-agent data check SITE_DIR` looks at every data set.")


class MissingDataError(DataError):
    """No such file or directory, or no file of the format in it."""


class UnreadableDataError(DataError):
    """The operating system does not let the file be read."""


class EmptyDataError(DataError):
    """A file without content, or a data set without a document on one side of the split."""


class BrokenArchiveError(DataError):
    """A .gz or .zst file that cannot be unpacked to its end."""


class NotUtf8Error(DataError):
    """Bytes that are not UTF-8."""


class BadLineError(DataError):
    """A line that is no JSON object, or lacks the text field."""


class TruncatedDataError(DataError):
    """A file that is shorter than what describes it."""


class IndexMismatchError(DataError):
    """A Megatron index that is none, or belongs to another .bin file."""


class DataTypeError(DataError):
    """Token ids stored as something that cannot hold token ids."""


class UnknownFormatError(DataError):
    """A format that this release does not know."""


class VocabularyError(DataError):
    """Token ids that the run's model has no place for, or token ids and bytes mixed."""


def where(name: str, path: Path | str = "") -> str:
    """How a message begins: the data set and the last part of the file's name."""
    file = Path(path).name if path else ""
    return f"data set {name}, {file}" if file else f"data set {name}"
