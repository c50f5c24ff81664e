# SPDX-License-Identifier: Apache-2.0
"""A stream ends when its reader has gone, news or not."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from federation.cli.reader import check_reader


@contextmanager
def piped() -> Iterator[int]:
    """Standard output is a pipe; the end at which it is read."""
    reads, writes = os.pipe()
    with open(writes, "w") as output, redirect_stdout(output):
        yield reads


def test_who_reads_slowly_still_reads() -> None:
    with piped() as reads:
        check_reader()
        print("news", flush=True)
        check_reader()
        os.close(reads)


def test_a_reader_that_has_gone_is_noticed_without_news() -> None:
    with piped() as reads:
        os.close(reads)
        with pytest.raises(BrokenPipeError):
            check_reader()


def test_a_file_and_what_is_no_file_at_all_are_read_for_ever(tmp_path: Path) -> None:
    with redirect_stdout(io.StringIO()):
        check_reader()
    with (tmp_path / "out").open("w") as output, redirect_stdout(output):
        check_reader()
