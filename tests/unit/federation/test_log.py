# SPDX-License-Identifier: Apache-2.0
"""Log lines: one each, bounded, and not to be forged by what strangers send."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation import log
from federation.errors import ConfigError


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in ("federation", "coordinator", "site_agent", log.SECURITY_LOGGER):
        logger = logging.getLogger(name)
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def test_line_quotes_only_what_needs_it() -> None:
    found = log.line("admitted", site="alpha", norm=0.25, sentence="2 of 3", path="a/b.msg")
    assert found == 'admitted site=alpha norm=0.25 sentence="2 of 3" path=a/b.msg'


def test_configure_writes_utc_lines_of_our_packages_once() -> None:
    stream = io.StringIO()
    log.configure("INFO", stream)
    log.configure("INFO", stream)
    logging.getLogger("coordinator.driver").info("sealed round=3")
    logging.getLogger("coordinator.driver").debug("not shown")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("Z INFO coordinator.driver sealed round=3")


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[2J", "x\u2028y", "\udcff", "tab\t"], ids=ascii)
def test_control_characters_are_escaped(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest keeps log records for its report, and a distributed run cannot send half a surrogate pair.
    monkeypatch.setattr(logging.getLogger("federation"), "propagate", False)
    stream = io.StringIO()
    log.configure("INFO", stream)
    logging.getLogger("federation").warning("%s", log.line("rejected", name=hostile))
    logging.getLogger("federation").warning("%s", hostile)
    text = stream.getvalue()
    assert len(text.split("\n")) == 3
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_long_line_is_cut() -> None:
    stream = io.StringIO()
    log.configure("INFO", stream)
    logging.getLogger("federation").info("x" * 100_000)
    assert len(stream.getvalue()) <= log.MAX_LINE_CHARS + 1


def test_security_log_rotates_and_keeps_out_of_stderr(tmp_path: Path) -> None:
    stream = io.StringIO()
    log.configure("INFO", stream)
    logger = log.open_security_log(tmp_path / "security.log", max_bytes=2000, num_old=2)
    for number in range(200):
        logger.warning("rejected %d", number)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["security.log", "security.log.1", "security.log.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert "rejected 199" in (tmp_path / "security.log").read_text()
    assert stream.getvalue() == ""


def test_an_error_and_its_advice_are_one_line() -> None:
    assert log.in_one_line(ConfigError("a: wrong\nb: wrong", advice="Mend both.")) == "a: wrong; b: wrong. Mend both."
    assert log.in_one_line(ConfigError("a: wrong")) == "a: wrong"
