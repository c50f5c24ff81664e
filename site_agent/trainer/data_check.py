# SPDX-License-Identifier: Apache-2.0
"""Reads all of a site's data and says what is there and what is wrong: `python -m site_agent.trainer.data_check`.

Takes a JSON list of `Inspected` on its standard input and prints a `Report` per line. A process of its own: the agent's
own commands load no numerics. No text is ever printed.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from federation.errors import FederationError
from federation.text_split import Split, split_of
from site_agent.data_sets import DataFormat, DataSet, UnknownFormatError, VocabularyError, where
from site_agent.json_records import decode
from site_agent.trainer.data_documents import documents, files_of, text_files
from site_agent.trainer.data_megatron import TokenFile, open_tokens

MAX_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """A data set. `simple`: its files are those of its language in the directory, as site.toml's simple way has it."""

    data: DataSet
    simple: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one data set holds.

    Attributes:
        num_files, num_documents, num_held_out: of all its files that can be read to their end.
        num_bytes: of UTF-8 text, unpacked; of the .bin files for token ids.
        num_tokens: token ids; for text and jsonl the bytes, which are the reference trainer's tokens.
        problems: the first ones, at most one per file.
    """

    name: str
    format: str
    language: str
    num_files: int = 0
    num_documents: int = 0
    num_held_out: int = 0
    num_bytes: int = 0
    num_tokens: int = 0
    problems: tuple[str, ...] = ()


def inspect(inspected: Inspected) -> Report:
    """Reads one data set to its end; a file with a problem does not keep the others from being read."""
    data = inspected.data
    report = Report(name=data.name, format=str(data.format), language=data.language)
    try:
        paths = text_files(Path(data.path), data.language) if inspected.simple else files_of(data)
    except FederationError as error:
        return replace(report, problems=(str(error),))
    for path in paths:
        try:
            report = _with_file(report, data, path)
        except FederationError as error:
            report = replace(report, problems=(*report.problems, str(error)))
    return _without_rest(report, data)


def _with_file(report: Report, data: DataSet, path: Path) -> Report:
    if data.format is DataFormat.MEGATRON:
        (file,) = open_tokens(data, (path,))
        file.check()
        _check_tokens(data, path, file)
        sides = [file.side(number) for number in range(file.num_documents)]
        held_out, num_bytes = sides.count(Split.HELD_OUT), file.num_tokens * file.dtype.itemsize
        counts = (file.num_documents, held_out, num_bytes, file.num_tokens)
    else:
        counts = _count(data, path)
    num_documents, num_held_out, num_bytes, num_tokens = counts
    return replace(
        report,
        num_files=report.num_files + 1,
        num_documents=report.num_documents + num_documents,
        num_held_out=report.num_held_out + num_held_out,
        num_bytes=report.num_bytes + num_bytes,
        num_tokens=report.num_tokens + num_tokens,
        problems=report.problems if num_documents else (*report.problems, _empty(data, path)),
    )


def _count(data: DataSet, path: Path) -> tuple[int, int, int, int]:
    num_documents = num_held_out = num_bytes = 0
    for text, encoded in documents(data, path):
        num_documents += 1
        num_held_out += split_of(text) is Split.HELD_OUT
        num_bytes += len(encoded) + 1
    return num_documents, num_held_out, num_bytes, num_bytes


def _check_tokens(data: DataSet, path: Path, file: TokenFile) -> None:
    """Every token id against the tokenizer that site.toml states."""
    found = file.largest()
    if found < 0 or (data.vocab_size and found >= data.vocab_size):
        expected = f"token ids from 0 to {data.vocab_size - 1}" if data.vocab_size else "token ids from 0 on"
        raise VocabularyError(f"{where(data.name, path)}: expected {expected}, found {found}")


def _empty(data: DataSet, path: Path) -> str:
    return f"{where(data.name, path)}: expected documents, found an empty file"


def _without_rest(report: Report, data: DataSet) -> Report:
    """The first problems, and that one side of the split is empty where nothing else is wrong."""
    problems = report.problems
    if not problems and not 0 < report.num_held_out < report.num_documents:
        side = Split.TRAIN if report.num_held_out else Split.HELD_OUT
        problems = (f"{where(data.name)}: expected {side} documents, found none among {report.num_documents}",)
    return replace(report, problems=problems[:MAX_PROBLEMS])


def main() -> int:
    """The process's exit status."""
    try:
        asked = [decode(Inspected, json.dumps(item).encode()) for item in json.loads(sys.stdin.read())]
    except (ValueError, TypeError, FederationError) as error:
        raise UnknownFormatError(f"expected a list of data sets on standard input, found: {error}") from error
    for item in asked:
        print(json.dumps(asdict(inspect(item))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
