# SPDX-License-Identifier: Apache-2.0
"""TOML files of operators, read strictly: one sentence for every problem, all of them at once.

A sentence names file, key, what was expected, what was found, and the line where that can be told. Text that came from
the file is printed as JSON (ASCII, shortened), so that nothing in it can move a terminal's cursor or fake a sentence.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from federation.errors import ConfigError
from federation.ids import is_slug

MAX_CONFIG_BYTES: Final = 1024 * 1024
"""Largest TOML file that is read."""

MAX_PROBLEMS: Final = 50
"""Problems listed at once; a hostile manifest can have millions."""

SLUG_WORDS: Final = "lower-case letters, digits and hyphens, 1 to 40 of them"

M = TypeVar("M", bound=BaseModel)


def _check_slug(value: str) -> str:
    if not is_slug(value):
        raise ValueError(SLUG_WORDS)
    return value


Slug = Annotated[str, AfterValidator(_check_slug)]
"""An id in a configuration file."""


class Section(BaseModel):
    """Base of everything read from TOML: frozen, no conversions between types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with one key. `line` counts from 1; 0 where it is not known."""

    key: str
    expected: str
    found: str
    line: int = 0

    def sentence(self, source: str) -> str:
        """The problem for people: `run.toml: schedule.tau: expected 0 to 20, found 25 (line 9)`."""
        where = f"{source}: {self.key}" if self.key else source
        line = f" (line {self.line})" if self.line else ""
        return f"{where}: expected {self.expected}, found {self.found}{line}"


class ProblemsError(ConfigError):
    """Everything that is wrong with one file or manifest. `problems` holds what the message says, one by one."""

    def __init__(self, source: str, problems: Sequence[Problem], *, advice: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.sentence(source) for problem in self.problems), advice=advice)


def raise_if_any(source: str, problems: Iterable[Problem], *, text: str = "", advice: str = "") -> None:
    """Raises one error that lists the first `MAX_PROBLEMS` problems, or does nothing if there is none.

    Args:
        source: name of the file or thing, as the operator knows it.
        problems: consumed no further than needed.
        text: the TOML text, to tell line numbers.
        advice: what to do about it.

    Raises:
        ProblemsError: there is at least one problem.
    """
    listed = list(islice(problems, MAX_PROBLEMS))
    if not listed:
        return
    lines = key_lines(text)
    placed = [Problem(key=p.key, expected=p.expected, found=p.found, line=_line_of(p.key, lines)) for p in listed]
    raise ProblemsError(source, placed, advice=advice)


def load_toml(path: Path, model: type[M], *, advice: str = "") -> M:
    """Reads a TOML file into a model.

    Raises:
        ConfigError: the file is missing, unreadable, too large or not TOML, or a key is unknown, missing or has the
            wrong type; the message lists every such key.
    """
    return parse_toml(read_config_text(path), path.name, model, advice=advice)


def parse_toml(text: str, source: str, model: type[M], *, advice: str = "") -> M:
    """Reads TOML text into a model. `source` names the file in messages.

    Raises:
        ConfigError: as `load_toml`.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise ConfigError(f"{source}: expected TOML, found an error in its syntax: {error}", advice=advice) from None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = [_problem(model, details) for details in error.errors(include_url=False)]
    raise_if_any(source, problems, text=text, advice=advice)
    raise AssertionError("a ValidationError has at least one problem")


def read_config_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it is missing, unreadable, larger than `MAX_CONFIG_BYTES` or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a TOML file, found nothing of that name") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a TOML file, found a directory") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file, found: {error.strerror}") from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes, found more")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found byte {data[error.start]:#04x}") from None


def describe(value: object) -> str:
    """A value from a file or a peer as short printable ASCII."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return f"a table with {_counted(len(value), 'key')}"
    if isinstance(value, list | tuple):
        return f"a list of {_counted(len(value), 'item')}"
    if isinstance(value, date | time):
        return value.isoformat()
    if not isinstance(value, str | bool | int | float):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"
    text = json.dumps(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- pydantic's errors in our words -----------------------------------------------------------------------------------

_TYPE_WORDS: Final[Mapping[str, str]] = {
    "missing": "this key",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of at most 64 bits",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

_RANGE_WORDS: Final[Mapping[str, str]] = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
}


def _problem(model: type[BaseModel], details: ErrorDetails) -> Problem:
    kind, loc = details["type"], details["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(model, loc)
    context: dict[str, Any] = details.get("ctx", {})
    if kind in _RANGE_WORDS:
        expected = _RANGE_WORDS[kind].format(**context)
    elif kind == "value_error":
        expected = str(context.get("error", details["msg"]))
    else:
        expected = _TYPE_WORDS.get(kind, details["msg"])
    found = "nothing" if kind == "missing" else describe(details["input"])
    return Problem(key=_key(loc), expected=expected, found=found)


def _unknown_key(model: type[BaseModel], loc: tuple[str | int, ...]) -> Problem:
    known = _keys_at(model, loc[:-1])
    name = str(loc[-1])
    close = get_close_matches(name, known, n=1)
    hint = f", which is unknown; did you mean {close[0]}?" if close else ", which is unknown"
    return Problem(key=_key(loc), expected=f"one of the keys {', '.join(known)}", found=f"{describe(name)}{hint}")


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Keys that the table at `loc` may have."""
    here: Any = model
    for part in map(str, loc):
        inside = [here] if _is_model(here) else _models_in(here)
        field = next((m.model_fields[part] for m in inside if part in m.model_fields), None)
        here = field.annotation if field is not None else here
    inside = [here] if _is_model(here) else _models_in(here)
    return [field.alias or name for m in inside for name, field in m.model_fields.items()]


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """Models inside an annotation such as `tuple[Site, ...]`, `dict[str, Site]` or `Site | None`."""
    found: list[type[BaseModel]] = []
    for argument in get_args(annotation):
        found += [argument] if _is_model(argument) else _models_in(argument)
    return found


_DICT_KEY: Final = "[key]"
"""Where pydantic complains about a key itself, the key's own name comes before this."""


def _key(loc: tuple[str | int, ...]) -> str:
    """`("sites", 0, "id")` as `sites[1].id`: items of a list count from 1."""
    key = ""
    for part in loc:
        if isinstance(part, int):
            key += f"[{part + 1}]"
        elif part != _DICT_KEY:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", part) else describe(part)
            key += f".{name}" if key else name
    return key


# --- lines ------------------------------------------------------------------------------------------------------------

_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\- ]+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Line (from 1) of every plain key and table header; keys inside inline tables and quoted keys are left out."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix, in_string = "", False
    for number, line in enumerate(text.splitlines(), start=1):
        was_in_string = in_string
        in_string ^= (line.count('"""') + line.count("'''")) % 2 == 1
        if was_in_string:
            continue
        if header := _HEADER.match(line):
            prefix = _table_name(header, counts)
            lines.setdefault(prefix, number)
        elif assignment := _ASSIGNMENT.match(line):
            name = re.sub(r"\s", "", assignment.group(1))
            lines.setdefault(f"{prefix}.{name}" if prefix else name, number)
    return lines


def _table_name(header: re.Match[str], counts: dict[str, int]) -> str:
    name = re.sub(r"\s", "", header.group(2))
    if header.group(1) == "[[":
        counts[name] = counts.get(name, 0) + 1
        return f"{name}[{counts[name]}]"
    parent, _, rest = name.partition(".")
    return f"{parent}[{counts[parent]}].{rest}" if parent in counts and rest else name


def _line_of(key: str, lines: Mapping[str, int]) -> int:
    """Line of a key, else of the nearest table around it, else 0."""
    while key and key not in lines:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return lines.get(key, 0)
