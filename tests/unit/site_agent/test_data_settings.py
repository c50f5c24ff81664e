# SPDX-License-Identifier: Apache-2.0
"""`[data]` of site.toml: named data sets in place of one directory, and what is wrong with them."""

from pathlib import Path

import pytest

from federation.config import Section, parse_toml
from federation.errors import ConfigError
from site_agent.data_sets import DataFormat
from site_agent.data_settings import DataSection, data_problems

ONE = '[[data.sets]]\nname = "web-de"\npath = "web"\nformat = "text"\nlanguage = "de"\n'
OTHER = (
    '[[data.sets]]\nname = "books"\npath = "/books/a.jsonl.zst"\nformat = "jsonl"\nlanguage = "fra_Latn"\nweight = 3\n'
)


class Config(Section):
    data: DataSection = DataSection()


def parsed(text: str) -> DataSection:
    return parse_toml(text, "site.toml", Config).data


def found(text: str, site_dir: Path, data_dir: str = "", languages: tuple[str, ...] = ()) -> list[str]:
    problems = data_problems(parsed(text), site_dir, data_dir=data_dir, languages=languages)
    return [problem.sentence("site.toml") for problem in problems]


def test_sets_are_taken_in_the_order_of_their_names_with_absolute_paths(tmp_path: Path) -> None:
    books, web = parsed(ONE + OTHER).data_sets(tmp_path)
    assert (books.name, books.path, books.format, books.weight) == (
        "books",
        "/books/a.jsonl.zst",
        DataFormat.JSONL,
        3.0,
    )
    assert (web.name, web.path, web.text_field, web.weight) == ("web-de", str(tmp_path / "web"), "text", 1.0)
    assert parsed(ONE + OTHER).data_sets(tmp_path) == parsed(OTHER + ONE).data_sets(tmp_path)
    assert parsed(ONE + OTHER).languages == ("de", "fra_Latn")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            '"text"',
            '"parquet"',
            "data.sets[1].format: expected 'text', 'jsonl' or 'megatron', found \"parquet\" (line 4)",
        ),
        ('"web-de"', '"Web"', "data.sets[1].name: expected lower-case letters, digits and hyphens"),
        ('"de"', '"German"', "data.sets[1].language: expected a language code such as de, deu or deu_Latn"),
        ('"web"', '""', "data.sets[1].path: expected at least 1 characters"),
        ("\nlanguage", "\nweight = 0.0\nlanguage", "data.sets[1].weight: expected more than 0"),
        ("\nlanguage", "\nwieght = 1.0\nlanguage", "did you mean weight?"),
    ],
)
def test_what_is_no_data_set(old: str, new: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(ONE.replace(old, new))
    assert sentence in str(caught.value)


def test_either_way_but_not_both(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    assert found(ONE, tmp_path) == found("", tmp_path, "web", ("de",)) == []
    both = "site.toml: data: expected either data_dir and languages, or data.sets, found both"
    assert found(ONE, tmp_path, "web", ("de",)) == [both]
    assert found("", tmp_path) == [
        "site.toml: data_dir: expected a directory with the site's text files, found nothing",
        "site.toml: languages: expected at least one language, found nothing",
    ]


def test_missing_paths_repeated_names_and_mixed_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokens_text_document.bin").write_bytes(b"x")
    mixed = ONE.replace('"text"', '"megatron"').replace('"web"', '"tokens_text_document"') + ONE
    assert found(mixed, tmp_path) == [
        'site.toml: data.sets[2].name: expected a name of its own, found "web-de"',
        f"site.toml: data.sets[2].path: expected text data, found none at {tmp_path / 'web'}",
        "site.toml: data.sets: expected token ids (megatron) or bytes (text, jsonl) throughout, found both",
    ]
