# SPDX-License-Identifier: Apache-2.0
"""The pages about configuration files: each names every key and no other, with the default that is in force."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from coordinator.network_config import NETWORK_FILE, CoordinatorConfig, load_coordinator_config
from federation.codecs.registry import get_codec, uplink_names
from federation.config import parse_toml
from federation.errors import ConfigError
from federation.run_config import RunConfig, parse_run_config
from site_agent.policy_file import POLICY_FILE, Policy, load_policy
from site_agent.site_config import SITE_FILE, SiteConfig, load_site_config

DOCS = Path(__file__).resolve().parents[2] / "docs"
OWN_KEYS = "The file's own keys"

PAGES: Mapping[str, type[BaseModel]] = {
    "run-toml.md": RunConfig,
    "coordinator-toml.md": CoordinatorConfig,
    "site-toml.md": SiteConfig,
    "policy-toml.md": Policy,
}
pages = pytest.mark.parametrize("page", PAGES)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of a TOML file: the heading of its part of the page, and its plain keys."""

    heading: str
    keys: Mapping[str, FieldInfo]


def tables_of(model: type[BaseModel], heading: str = OWN_KEYS, path: str = "") -> Iterator[Table]:
    """The model's own table if it has plain keys, then those below it."""
    below = {name: tables_in(path + name, field) for name, field in model.model_fields.items()}
    keys = {name: field for name, field in model.model_fields.items() if not below[name]}
    if keys:
        yield Table(heading=heading, keys=keys)
    for name, inner in below.items():
        for found, its_heading in inner:
            yield from tables_of(found, its_heading, f"{path}{name}.")


def tables_in(path: str, field: FieldInfo) -> list[tuple[type[BaseModel], str]]:
    """Model and heading of a key's table: there is one, a list of them, or one for each name; [] for a plain key."""
    annotation: Any = field.annotation
    if is_model(annotation):
        return [(annotation, f"`[{path}]`")]
    heading = f"`[{path}.NAME]`" if getattr(annotation, "__origin__", None) is dict else f"`[[{path}]]`"
    return [(argument, heading) for argument in get_args(annotation) if is_model(argument)]


def is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def part_of(text: str, heading: str) -> str:
    """What stands below a heading of the second level."""
    (part,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(part)


def rows_of(part: str) -> dict[str, list[str]]:
    """Cells of each row of its table of keys, by key."""
    table = part[part.index("| key |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    found = {row[0].strip("`"): row[1:] for row in rows}
    assert len(found) == len(rows), f"expected each key once, found {[row[0] for row in rows]}"
    return found


def stated_default(cell: str) -> object:
    """What a cell of literal TOML stands for; the text itself if it is none."""
    try:
        return tomllib.loads(f"value = {cell.strip('`')}")["value"]
    except tomllib.TOMLDecodeError:
        return cell.strip("`")


def default_of(field: FieldInfo) -> object:
    """The default as TOML has it: lists, no tuples."""
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


@pages
def test_every_key_is_documented_and_no_other(page: str) -> None:
    text, tables = (DOCS / page).read_text(), list(tables_of(PAGES[page]))
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [table.heading for table in tables]
    for table in tables:
        rows = rows_of(part_of(text, table.heading))
        assert list(rows) == list(table.keys), table.heading
        assert all(cells[0] and all(cells) for cells in rows.values()), table.heading


@pages
def test_the_documented_defaults_are_in_force(page: str) -> None:
    text = (DOCS / page).read_text()
    for table in tables_of(PAGES[page]):
        for key, cells in rows_of(part_of(text, table.heading)).items():
            field, cell = table.keys[key], cells[-1]
            assert field.is_required() == (cell == "required"), f"{table.heading} {key}"
            default = None if field.is_required() else default_of(field)
            if default is not None:  # None: it follows from other keys
                assert stated_default(cell) == default, f"{table.heading} {key}"


@pages
def test_the_documented_example_is_read(page: str) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    parse_toml(example, page, PAGES[page])
    if PAGES[page] is RunConfig:
        parse_run_config(example)  # its rules between keys too


def test_the_mistakes_shown_are_told_like_that(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    site = 'site = "x"\nprofile = "localhost"\ndata_dir = "data"\n\nlanguages = ["de", "de"]\n'
    policy = (
        'unlisted = "ask"\n\n[hours]\n# at night\nwindows = ["8pm-6am"]\n\n[[maintenance]]\n'
        "begins_at = 2027-03-01T08:00:00+02:00\nends_at = 2027-03-01T06:00:00Z\n"
    )
    for page, name, load, mistaken in (
        ("coordinator-toml.md", NETWORK_FILE, load_coordinator_config, '[network]\nlisten = "443"\n'),
        ("site-toml.md", SITE_FILE, load_site_config, site),
        ("policy-toml.md", POLICY_FILE, load_policy, policy),
    ):
        (tmp_path / name).write_text(mistaken)
        with pytest.raises(ConfigError) as caught:
            load(tmp_path)
        assert f"```\n{caught.value}\n```" in (DOCS / page).read_text()


def test_the_sizes_of_payloads_are_those_of_the_codecs() -> None:
    text = part_of((DOCS / "coordinator-toml.md").read_text(), "`[network.limits]`")
    names, _, sizes = text[text.index("| `codecs.up` |") :].splitlines()[:3]
    stated = dict(zip(re.findall(r"`(\w+)`", names), re.findall(r"[\d.]+", sizes), strict=True))
    found = {name: get_codec(name) for name in uplink_names()}
    assert {name: float(size) for name, size in stated.items()} == {
        name: codec.bytes_per_block / codec.block_elements for name, codec in found.items()
    }
