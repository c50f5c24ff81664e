# SPDX-License-Identifier: Apache-2.0
"""`[data]` of site.toml: named data sets with their parts of the mixture. What they are is `site_agent.data_sets`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from federation.config import Problem, Section, Slug, describe
from site_agent.data_sets import DataFormat, DataSet

MAX_DATA_SETS: Final = 1000


def _check_language(value: str) -> str:
    if re.fullmatch(r"[a-z]{2,3}(_[A-Z][a-z]{3})?", value, re.ASCII) is None:
        raise ValueError("a language code such as de, deu or deu_Latn")
    return value


Language = Annotated[str, AfterValidator(_check_language)]


class DataSetEntry(Section):
    """`[[data.sets]]`: one data set; `data_sets.DataSet` says what each key means. `path` may be relative."""

    name: Slug
    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    format: Literal["text", "jsonl", "megatron"]
    language: Language
    weight: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    text_field: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "text"
    vocab_size: Annotated[int, Field(ge=0, le=2**31)] = 0
    bytes_per_token: Annotated[float, Field(ge=0, le=1000)] = 0.0


class DataSection(Section):
    """`[data]`: the site's data sets, in place of `data_dir` and `languages`.

    A data set's part of the training sequences is its weight over the sum of all weights; a language's part is the sum
    over its data sets. Data sets count in the order of their names, so that moving them in site.toml changes nothing.
    """

    sets: Annotated[tuple[DataSetEntry, ...], Field(strict=False, max_length=MAX_DATA_SETS)] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        """Each language once, ascending."""
        return tuple(sorted({entry.language for entry in self.sets}))

    def data_sets(self, site_dir: Path) -> tuple[DataSet, ...]:
        """What a work order carries, by name, with absolute paths."""
        return tuple(
            DataSet(
                name=entry.name,
                path=str((site_dir / entry.path).absolute()),
                format=DataFormat(entry.format),
                language=entry.language,
                weight=entry.weight,
                text_field=entry.text_field,
                vocab_size=entry.vocab_size,
                bytes_per_token=entry.bytes_per_token,
            )
            for entry in sorted(self.sets, key=lambda entry: entry.name)
        )


def data_problems(section: DataSection, site_dir: Path, *, data_dir: str, languages: tuple[str, ...]) -> list[Problem]:
    """What is wrong with the data of a site.toml, whichever of the two ways it takes.

    Args:
        data_dir, languages: of the simple way, "" and () where they are left out.
    """
    simple = bool(data_dir or languages)
    if section.sets and simple:
        expected = "either data_dir and languages, or data.sets"
        return [Problem(key="data", expected=expected, found="both")]
    return list(_set_problems(section, site_dir) if section.sets else _simple_problems(site_dir, data_dir, languages))


def _simple_problems(site_dir: Path, data_dir: str, languages: tuple[str, ...]) -> Iterator[Problem]:
    path = (site_dir / data_dir).absolute()
    if not data_dir or not path.is_dir():
        found = f"none at {path}" if data_dir else "nothing"
        yield Problem(key="data_dir", expected="a directory with the site's text files", found=found)
    if not languages:
        yield Problem(key="languages", expected="at least one language", found="nothing")
    if len(set(languages)) != len(languages):
        yield Problem(key="languages", expected="each language once", found=", ".join(languages))


def _set_problems(section: DataSection, site_dir: Path) -> Iterator[Problem]:
    names = [entry.name for entry in section.sets]
    for number, entry in enumerate(section.sets, start=1):
        key = f"data.sets[{number}]"
        if entry.name in names[: number - 1]:
            yield Problem(key=f"{key}.name", expected="a name of its own", found=describe(entry.name))
        if not _is_there(site_dir / entry.path, DataFormat(entry.format)):
            found = f"none at {(site_dir / entry.path).absolute()}"
            yield Problem(key=f"{key}.path", expected=f"{entry.format} data", found=found)
    kinds = {DataFormat(entry.format) is DataFormat.MEGATRON for entry in section.sets}
    if len(kinds) > 1:
        expected = "token ids (megatron) or bytes (text, jsonl) throughout"
        yield Problem(key="data.sets", expected=expected, found="both")


def _is_there(path: Path, kind: DataFormat) -> bool:
    """Megatron data may be named without `.bin`, as Megatron-LM does."""
    return path.exists() or (kind is DataFormat.MEGATRON and path.with_name(f"{path.name}.bin").exists())
