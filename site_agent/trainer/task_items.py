# SPDX-License-Identifier: Apache-2.0
"""Files of multiple-choice items: one JSON object per line, `{"context": "...", "choices": ["...", ...], "answer": 0}`.

A choice continues its context letter by letter: where a blank belongs between the two, the choice begins with it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from federation.errors import ConfigError
from site_agent.task_orders import Task

MAX_LINE_BYTES: Final = 1024 * 1024
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_CHOICES: Final = 100
_VERSION_CHARS: Final = 12


class TaskFileError(ConfigError):
    """A file of items is not what it should be. Says which line, never what is in it."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question: UTF-8 bytes, and which of the choices is right, counted from 0."""

    context: bytes
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of a task that are scored, and the version that names exactly these."""

    items: tuple[Item, ...]
    version: str


def read_items(task: Task) -> Items:
    """The task's items, the first `max_items` of its file.

    Raises:
        TaskFileError: the file cannot be read, is too large, or a line is no item.
    """
    digest, items = hashlib.sha256(), []
    for number, line in _lines(task):
        items.append(_item(line, f"{task.name} {task.language}, line {number}"))
        digest.update(line.strip() + b"\n")
        if len(items) == task.max_items:
            break
    if not items:
        raise TaskFileError(f"{task.name} {task.language}: expected at least one item in its file, found none")
    return Items(items=tuple(items), version=task.version or digest.hexdigest()[:_VERSION_CHARS])


def _lines(task: Task) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers from 1."""
    where, path = f"{task.name} {task.language}", Path(task.path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise TaskFileError(f"{where}: expected a file of at most {MAX_FILE_BYTES} bytes, found {size}")
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if len(line) > MAX_LINE_BYTES:
                    raise TaskFileError(f"{where}, line {number}: expected at most {MAX_LINE_BYTES} bytes, found more")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise TaskFileError(f"{where}: expected a file of items, found: {error.strerror}") from None


def _item(line: bytes, where: str) -> Item:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raise TaskFileError(f"{where}: expected a JSON object, found something else") from None
    found: dict[str, Any] = raw if isinstance(raw, dict) else {}
    context, choices, answer = found.get("context"), found.get("choices"), found.get("answer")
    if not isinstance(context, str):
        raise TaskFileError(f"{where}: expected context, a text, found none")
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice for choice in choices):
        raise TaskFileError(f"{where}: expected choices, a list of texts, found something else")
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise TaskFileError(f"{where}: expected 2 to {MAX_CHOICES} choices, found {len(choices)}")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise TaskFileError(f"{where}: expected answer, a choice's number from 0 to {len(choices) - 1}")
    try:
        return Item(context=context.encode(), choices=_encodable(choices), answer=answer)
    except UnicodeEncodeError:
        raise TaskFileError(f"{where}: expected texts that UTF-8 can hold, found half of a surrogate pair") from None


def _encodable(choices: list[str]) -> tuple[str, ...]:
    for choice in choices:
        choice.encode()
    return tuple(choices)
