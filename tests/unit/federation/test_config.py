# SPDX-License-Identifier: Apache-2.0
"""Reading TOML: every problem is one sentence with file, key, expected, found and line."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from federation.config import (
    MAX_CONFIG_BYTES,
    MAX_PROBLEMS,
    Problem,
    ProblemsError,
    Section,
    Slug,
    describe,
    key_lines,
    load_toml,
    parse_toml,
    raise_if_any,
)
from federation.errors import ConfigError


class Inner(Section):
    steps: int = 1
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    share: Annotated[int, Field(ge=0, le=100)] = 0


class Item(Section):
    id: Slug
    on: bool = True


class Outer(Section):
    name: str
    inner: Inner = Inner()
    items: Annotated[tuple[Item, ...], Field(strict=False)] = ()
    named: dict[Slug, Item] = Field(default_factory=dict)


def sentences(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, "file.toml", Outer)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_reads_every_kind_of_value() -> None:
    text = 'name = "x"\n[inner]\nrate = 1\n[[items]]\nid = "a-1"\non = false\n[named.b]\nid = "b"'
    outer = parse_toml(text, "file.toml", Outer)
    assert outer.inner.rate == 1.0
    assert outer.items == (Item(id="a-1", on=False),)
    assert outer.named["b"].id == "b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "file.toml: name: expected this key, found nothing"),
        ("name = 3", "file.toml: name: expected a text in quotes, found 3 (line 1)"),
        ('name = "x"\n[inner]\nsteps = 1.5', "file.toml: inner.steps: expected a whole number, found 1.5 (line 3)"),
        ('name = "x"\n[inner]\nsteps = "1"', 'file.toml: inner.steps: expected a whole number, found "1" (line 3)'),
        ('name = "x"\n[inner]\nsteps = true', "file.toml: inner.steps: expected a whole number, found true (line 3)"),
        ('name = "x"\n[inner]\nrate = nan', "file.toml: inner.rate: expected a finite number, found NaN (line 3)"),
        ('name = "x"\n[inner]\nkind = "c"', "file.toml: inner.kind: expected 'a' or 'b', found \"c\" (line 3)"),
        ('name = "x"\n[inner]\nshare = 101', "file.toml: inner.share: expected at most 100, found 101 (line 3)"),
        ('name = "x"\n[inner]\nshare = -1', "file.toml: inner.share: expected at least 0, found -1 (line 3)"),
        ('name = "x"\ninner = 4', "file.toml: inner: expected a table, found 4 (line 2)"),
        ('name = "x"\nitems = 4', "file.toml: items: expected a list, found 4 (line 2)"),
        (
            'name = "x"\n[[items]]\nid = "a"\n[[items]]\non = true',
            "file.toml: items[2].id: expected this key, found nothing (line 4)",
        ),
        (
            'name = "x"\n[[items]]\nid = "A/../b"',
            "file.toml: items[1].id: expected lower-case letters, digits and hyphens, 1 to 40 of them, "
            'found "A/../b" (line 3)',
        ),
        (
            'name = "x"\n[named.UP]\nid = "a"',
            "file.toml: named.UP: expected lower-case letters, digits and hyphens, 1 to 40 of them, "
            'found "UP" (line 2)',
        ),
        (
            'name = "x"\n[inner]\nstep = 3',
            "file.toml: inner.step: expected one of the keys steps, rate, kind, share, "
            'found "step", which is unknown; did you mean steps? (line 3)',
        ),
        (
            'name = "x"\n[[items]]\nid = "a"\nidentity_number = 1',
            "file.toml: items[1].identity_number: expected one of the keys id, on, "
            'found "identity_number", which is unknown (line 4)',
        ),
        (
            'name = "x"\n[named.b]\nid = "a"\nonn = true',
            "file.toml: named.b.onn: expected one of the keys id, on, "
            'found "onn", which is unknown; did you mean on? (line 4)',
        ),
    ],
)
def test_one_sentence_for_one_problem(text: str, sentence: str) -> None:
    assert sentences(text) == [sentence]


def test_lists_all_problems_at_once() -> None:
    found = sentences('[inner]\nsteps = 1.5\nrate = "x"\n[[items]]\non = 1\nx = 1')
    keys = [sentence.split(": ")[1] for sentence in found]
    assert sorted(keys) == ["inner.rate", "inner.steps", "items[1].id", "items[1].on", "items[1].x", "name"]


def test_text_of_the_file_cannot_fake_a_sentence_or_move_the_cursor() -> None:
    (found,) = sentences('name = "x"\n[inner]\nkind = "\\u001b[2J\\nfile.toml: all is well \\u2028"')
    assert found.isprintable()
    assert found.isascii()


def test_a_hostile_key_is_printed_as_data() -> None:
    (found,) = sentences('name = "x"\n"a\\n\\u001b[31m" = 1')
    assert found.isprintable()


def test_syntax_error_has_its_place() -> None:
    (sentence,) = sentences("name = = 3")
    assert sentence.startswith("file.toml: expected TOML, found an error in its syntax: ")
    assert "line 1, column 8" in sentence


def test_deep_nesting_is_a_sentence_too() -> None:
    (sentence,) = sentences("name = " + "[" * 100_000)
    assert "expected TOML" in sentence


def test_a_number_of_thousands_of_digits_is_a_sentence_too() -> None:
    (sentence,) = sentences("name = " + "1" * 5000)
    assert "expected TOML" in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("missing", ["nothing.toml", "."])
def test_a_file_that_is_not_one(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ConfigError, match="expected a TOML file, found"):
        load_toml(tmp_path / missing, Outer)


def test_a_file_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="expected UTF-8 text, found byte 0xff"):
        load_toml(path, Outer)
    path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="expected at most 1048576 bytes"):
        load_toml(path, Outer)


def test_messages_name_the_file_and_not_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("name = 1")
    with pytest.raises(ProblemsError, match=r"^x\.toml: name: ") as caught:
        load_toml(path, Outer, advice="Read the page.")
    assert caught.value.problems[0].line == 1
    assert caught.value.diagnostics().endswith("\nRead the page.")


def test_the_list_of_problems_is_bounded_and_consumed_no_further() -> None:
    def endless() -> object:
        number = 0
        while True:
            number += 1
            yield Problem(key=f"k{number}", expected="less", found="more")

    with pytest.raises(ProblemsError) as caught:
        raise_if_any("thing", endless())  # type: ignore[arg-type]
    assert len(caught.value.problems) == MAX_PROBLEMS


def test_no_problem_raises_nothing() -> None:
    raise_if_any("thing", [])


def test_lines_are_not_taken_from_inside_texts() -> None:
    text = 'a = """\nb = 1\n[c]\n"""\nb = 2\n  [d.e]  # comment\nf.g = 1\n[[h]]\n[[h]]\ni = 1\n[h.j]\nk = 1\n'
    lines = key_lines(text)
    expected = {
        "a": 1,
        "b": 5,
        "d.e": 6,
        "d.e.f.g": 7,
        "h[1]": 8,
        "h[2]": 9,
        "h[2].i": 10,
        "h[2].j": 11,
        "h[2].j.k": 12,
    }
    assert lines == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        ({"a": 1}, "a table with 1 key"),
        ([], "a list of 0 items"),
        ("ä", '"\\u00e4"'),
        (True, "true"),
        (float("inf"), "Infinity"),
        (b"x", "a bytes"),
    ],
)
def test_describe(value: object, text: str) -> None:
    assert describe(value) == text


def test_describe_is_short() -> None:
    assert len(describe("x" * 10**6)) <= 80
    assert len(describe(10**5000)) <= 80
