# SPDX-License-Identifier: Apache-2.0
"""Logging: one line per unit of work on stderr, and a rotating file for what peers did that they should not have.

Neither is evidence: evidence is the ledger. Lines hold what strangers sent, so control characters are escaped; no line
can forge another one or move a terminal's cursor.
"""

import json
import logging
import logging.handlers
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from federation.errors import FederationError

SECURITY_LOGGER: Final = "federation.security"
MAX_LINE_CHARS: Final = 4000

_PACKAGES: Final = ("federation", "coordinator", "site_agent")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+,%-]+")
_HANDLER_NAME: Final = "federation"


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO coordinator.driver message`, always one line of bounded length, in UTC."""

    converter: Callable[[float | None], time.struct_time] = time.gmtime

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _escaped(text if len(text) <= MAX_LINE_CHARS else text[: MAX_LINE_CHARS - 1] + "…")


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends the log of our own packages to `stream` (default: stderr). Calling it again replaces the handler.

    Args:
        level: a level of `logging`: DEBUG, INFO, WARNING, ERROR.

    Raises:
        ValueError: another level.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(LineFormatter())
    for package in _PACKAGES:
        _replace_handler(logging.getLogger(package), handler)
        logging.getLogger(package).setLevel(level)


def open_security_log(path: Path, *, max_bytes: int = 8 * 1024 * 1024, num_old: int = 4) -> logging.Logger:
    """The security log, in a file that is rotated at `max_bytes`, with `num_old` older ones beside it.

    It is bounded on purpose: whoever can send us junk must not be able to fill the disk. Its lines do not go to stderr.
    The file is made with the first line; its directory must exist by then.
    """
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=max_bytes, backupCount=num_old, encoding="utf-8", delay=True
    )
    handler.setFormatter(LineFormatter())
    logger = logging.getLogger(SECURITY_LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    _replace_handler(logger, handler)
    return logger


def line(event: str, **values: object) -> str:
    """One unit of work as `event key=value key="two words"`, for people and for grep."""
    return " ".join((event, *(f"{key}={_value(value)}" for key, value in values.items())))


def in_one_line(error: FederationError) -> str:
    """An error with its advice: a log's line has no line breaks, and an escaped one is hard to read."""
    text = "; ".join(str(error).splitlines())
    return f"{text}. {error.advice}" if error.advice else text


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """Control characters, line separators and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _replace_handler(logger: logging.Logger, handler: logging.Handler) -> None:
    handler.set_name(_HANDLER_NAME)
    for old in [known for known in logger.handlers if known.get_name() == _HANDLER_NAME]:
        logger.removeHandler(old)
        if old is not handler and isinstance(old, logging.FileHandler):
            old.close()
    logger.addHandler(handler)
